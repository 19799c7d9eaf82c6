import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { AppError, messageOf } from '../../platform/errors.ts';
import { terminate, waitGone, type ProcessIdentity } from '../../platform/processes.ts';
import type { Log } from '../../platform/log.ts';
import type { Machine, MachineDisks, MachineExit } from '../hypervisor.ts';
import type { VmFolder } from '../vm-folder.ts';
import { boundLog } from './bounded-log.ts';
import { QemuDisks } from './qemu-disks.ts';
import type { QemuProcess } from './qemu-process.ts';
import { passDevice } from './pass-device.ts';
import { QmpClient } from './qmp.ts';
import { receiveState } from './state-sink.ts';
import { restoreFromState, writeState } from './migration.ts';

/** An orderly quit takes some 20 ms; a QEMU that spins under a broken KVM never answers. */
const quitMs = 1_000;
const termMs = 1_000;
const reconnectMs = 2_000;
const maxConsoleBytes = 1024 * 1024;

const portChange = z.looseObject({ id: z.string(), open: z.boolean() });

/** A QEMU process with its monitor. */
export class QemuVm implements Machine {
  readonly process: ProcessIdentity;
  readonly exited: Promise<MachineExit>;
  readonly #qemu: QemuProcess;
  readonly #folder: VmFolder;
  readonly #log: Log;
  readonly #disks: QemuDisks;
  #qmp: QmpClient;
  #gone = false;

  constructor(qemu: QemuProcess, qmp: QmpClient, folder: VmFolder, jailer: string, log: Log) {
    this.process = qemu.identity;
    this.#qemu = qemu;
    this.#folder = folder;
    this.#log = log;
    this.#qmp = qmp;
    this.#disks = new QemuDisks(
      (command, args) => this.#qmp.execute(command, args),
      (matches, what, signal) => this.#qmp.waitEvent(matches, what, signal),
      (device, writable) => this.#qmp.withSocket((socket) => passDevice(jailer, device, writable, socket)),
    );
    const bound = boundLog(folder.serialLog, maxConsoleBytes, log);
    this.exited = qemu.exited.then((exit) => {
      this.#gone = true;
      bound[Symbol.dispose]();
      this.#qmp.close();
      return exit;
    });
    this.#watchMonitor();
  }

  async pause(): Promise<void> {
    await this.#qmp.execute('stop');
  }

  async resume(): Promise<void> {
    await this.#qmp.execute('cont');
  }

  async portOpened(portId: string, signal: AbortSignal): Promise<void> {
    await this.#qmp.waitEvent(
      (event) => {
        if (event.name !== 'VSERPORT_CHANGE') return false;
        const change = portChange.safeParse(event.data);
        return change.success && change.data.open && change.data.id === portId;
      },
      `the guest to open ${portId}`,
      signal,
    );
  }

  async saveState(file: string, signal: AbortSignal): Promise<void> {
    const sink = await receiveState(this.#folder.stateSink, file);
    try {
      await writeState(this.#qmp, signal);
      await sink.finished(signal);
    } finally {
      await sink.close();
    }
  }

  /** Reads the state from the inherited descriptor; the machine is paused afterwards. */
  async restore(signal: AbortSignal): Promise<void> {
    await restoreFromState(this.#qmp, signal);
  }

  disks(): Promise<MachineDisks> {
    return this.#disks.list();
  }

  insertDisk(slot: number, name: string): Promise<void> {
    return this.#disks.insert(slot, name);
  }

  ejectDisk(slot: number): Promise<void> {
    return this.#disks.eject(slot);
  }

  hotAddDisk(serial: string, name: string): Promise<void> {
    return this.#disks.hotAdd(serial, name);
  }

  hotAddBlockDevice(serial: string, device: string, writable: boolean): Promise<void> {
    return this.#disks.hotAddBlockDevice(serial, device, writable);
  }

  hotRemoveDisk(serial: string): Promise<void> {
    return this.#disks.hotRemove(serial);
  }

  async stop(): Promise<void> {
    this.#qemu.expectEnd();
    if (!this.#isGone()) {
      // The answer to quit may be lost when QEMU is faster; only the exit counts.
      await this.#qmp.execute('quit', undefined, quitMs).catch((error: unknown) => {
        this.#log.debug({ vmId: this.#folder.vmId, err: error }, 'qmp quit failed');
      });
      this.#qemu.expectEnd();
      if (!(await waitGone(this.process, quitMs))) {
        this.#log.warn({ vmId: this.#folder.vmId }, `qemu ${String(this.process.pid)} does not quit, sending signals`);
        await terminate(this.process, termMs);
      }
    }
    await this.exited;
  }

  #isGone(): boolean {
    return this.#gone;
  }

  /** The monitor may close without QEMU having ended (somebody else's mistake): connect again, or find that it has. */
  #watchMonitor(): void {
    void this.#qmp.closed.then(async () => {
      this.#qemu.expectEnd();
      await Promise.race([this.exited, delay(reconnectMs, undefined, { ref: false })]);
      if (this.#isGone()) return;
      try {
        this.#qmp = await QmpClient.connect(this.#folder.monitorSocket, AbortSignal.timeout(reconnectMs));
        this.#watchMonitor();
      } catch (error) {
        if (this.#isGone()) return;
        this.#log.error(
          { vmId: this.#folder.vmId },
          `qemu ${String(this.process.pid)} runs without a monitor: ${messageOf(error)}`,
        );
      }
    });
  }
}

/** Waits for the monitor of a QEMU that has just been started, and no longer than it lives. */
export async function connectMonitor(qemu: QemuProcess, folder: VmFolder, signal: AbortSignal): Promise<QmpClient> {
  const dead = new AbortController();
  const exit = qemu.exited.then((result) => {
    dead.abort(new AppError('internal', `vm ${folder.vmId}: ${result.reason}`));
  });
  try {
    return await QmpClient.connect(folder.monitorSocket, AbortSignal.any([signal, dead.signal]));
  } catch (error) {
    // A monitor that hangs up means that QEMU is about to end and to say why.
    if (!signal.aborted) await Promise.race([exit, delay(200)]);
    if (dead.signal.aborted) throw dead.signal.reason as AppError;
    throw error;
  }
}
