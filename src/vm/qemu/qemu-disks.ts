import { posix } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { MachineDisks } from '../hypervisor.ts';
import { imageSlotCount, placeholderNode, slotSerial } from './devices/image-slots.ts';
import { scsiBus } from './devices/scsi.ts';
import { jailPaths } from './jail-paths.ts';
import { QmpRefusal, type QmpArguments, type QmpEvent } from './qmp.ts';

type Execute = (command: string, args?: QmpArguments) => Promise<unknown>;
/** Sends the descriptor of an open block device over the monitor; the next add-fd takes it. */
type PassDevice = (device: string, writable: boolean) => Promise<void>;
type WaitEvent = (matches: (event: QmpEvent) => boolean, what: string, signal: AbortSignal) => Promise<QmpEvent>;

/** The guest takes part in a hot removal; the rehearsed path takes some 50 ms under emulation. */
const removalTimeoutMs = 10_000;
/** A new disk is there after some 30 ms, 200 the first time under emulation. */
const noticeTimeoutMs = 5_000;
const noticePauseMs = 10;
const peripherals = '/machine/peripheral';

const namedNodes = z.array(z.looseObject({ 'node-name': z.string(), file: z.string() }));
const blockStats = z.array(
  z.looseObject({ qdev: z.string().optional(), stats: z.looseObject({ rd_operations: z.number() }) }),
);
const children = z.array(z.looseObject({ name: z.string() }));

/**
 * Block nodes and disks of one QEMU. Nothing is remembered here: a later daemon asks QEMU what is
 * where. A node is named after its position, so each position has at most one.
 */
export class QemuDisks {
  readonly #execute: Execute;
  readonly #waitEvent: WaitEvent;
  readonly #passDevice: PassDevice;

  constructor(execute: Execute, waitEvent: WaitEvent, passDevice: PassDevice) {
    this.#execute = execute;
    this.#waitEvent = waitEvent;
    this.#passDevice = passDevice;
  }

  async list(): Promise<MachineDisks> {
    const [nodes, devices] = await Promise.all([
      this.#execute('query-named-block-nodes', { flat: true }),
      this.#execute('qom-list', { path: peripherals }),
    ]);
    const present = new Set(children.parse(devices).map((device) => device.name));
    const slots = new Map<number, string>();
    const hotAdded = new Map<string, string>();
    for (const node of namedNodes.parse(nodes)) {
      const position = node['node-name'].startsWith(nodePrefix)
        ? node['node-name'].slice(nodePrefix.length)
        : undefined;
      if (position === undefined) continue;
      const name = posix.basename(node.file);
      const slot = Array.from({ length: imageSlotCount }, (_, index) => index).find(
        (index) => slotSerial(index) === position,
      );
      if (slot !== undefined) slots.set(slot, name);
      else if (present.has(position)) hotAdded.set(position, name);
    }
    return { slots, hotAdded };
  }

  async insert(slot: number, name: string): Promise<void> {
    const node = nodeName(slotSerial(slot));
    // Both at once: QEMU works them off in order.
    const outcomes = await Promise.allSettled([this.#addNode(node, name), this.#setDrive(slot, node)]);
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') continue;
      await this.eject(slot);
      throw outcome.reason;
    }
  }

  async eject(slot: number): Promise<void> {
    await this.#setDrive(slot, placeholderNode(slot));
    await this.#deleteNode(nodeName(slotSerial(slot)));
  }

  async hotAdd(serial: string, name: string): Promise<void> {
    const node = nodeName(serial);
    await this.#addNode(node, name);
    await this.#addDisk(serial, node);
  }

  /** The jail shows no device, so QEMU is handed an open descriptor, kept in a set with the serial's number. */
  async hotAddBlockDevice(serial: string, device: string, writable: boolean): Promise<void> {
    const node = nodeName(serial);
    const set = descriptorSet(serial);
    // Of an attempt that was cut off.
    await this.#deleteNode(node);
    await this.#passDevice(device, writable);
    await this.#execute('add-fd', { 'fdset-id': set });
    try {
      await this.#execute('blockdev-add', {
        driver: 'host_device',
        'node-name': node,
        filename: `/dev/fdset/${String(set)}`,
        'read-only': !writable,
        locking: 'off',
        discard: 'unmap',
      });
      await this.#addDisk(serial, node);
    } catch (error) {
      await this.#forgetDescriptors(serial);
      throw error;
    }
  }

  async #addDisk(serial: string, node: string): Promise<void> {
    try {
      await this.#execute('device_add', { driver: 'scsi-hd', bus: scsiBus, id: serial, drive: node, serial });
    } catch (error) {
      await this.#deleteNode(node);
      throw error;
    }
    await this.#noticed(serial);
  }

  async hotRemove(serial: string): Promise<void> {
    const gone = this.#waitEvent(
      (event) => event.name === 'DEVICE_DELETED' && event.data['device'] === serial,
      `removal of ${serial}`,
      AbortSignal.timeout(removalTimeoutMs),
    );
    gone.catch(() => undefined);
    try {
      await this.#execute('device_del', { id: serial });
      await gone;
    } catch (error) {
      if (!(error instanceof QmpRefusal && error.errorClass === 'DeviceNotFound')) throw error;
    }
    await this.#deleteNode(nodeName(serial));
    await this.#forgetDescriptors(serial);
  }

  /** QEMU closes them. A serial that is no block device's has none. */
  async #forgetDescriptors(serial: string): Promise<void> {
    const set = descriptorSet(serial);
    if (set === undefined) return;
    try {
      await this.#execute('remove-fd', { 'fdset-id': set });
    } catch (error) {
      if (!(error instanceof QmpRefusal && /find/i.test(error.message))) throw error;
    }
  }

  /**
   * Waits until the guest has looked for partitions on a new disk: from then on it has a device node.
   * A guest that never does gets its disk all the same, and the error when it looks for it.
   */
  async #noticed(serial: string): Promise<void> {
    const deadline = performance.now() + noticeTimeoutMs;
    while (performance.now() < deadline) {
      const all = blockStats.parse(await this.#execute('query-blockstats'));
      const disk = all.find(({ qdev }) => qdev === serial || qdev?.split('/').includes(serial));
      if (disk && disk.stats.rd_operations > 0) return;
      await delay(noticePauseMs);
    }
  }

  async #addNode(node: string, name: string): Promise<void> {
    await this.#execute('blockdev-add', {
      driver: 'file',
      'node-name': node,
      filename: `${jailPaths.disks}/${name}`,
      'read-only': true,
      locking: 'off',
    });
  }

  async #setDrive(slot: number, node: string): Promise<void> {
    await this.#execute('qom-set', { path: `${peripherals}/${slotSerial(slot)}`, property: 'drive', value: node });
  }

  /** A node that is not there is fine: a repeated removal, or the rest of one that was cut off. */
  async #deleteNode(node: string): Promise<void> {
    try {
      await this.#execute('blockdev-del', { 'node-name': node });
    } catch (error) {
      if (!(error instanceof QmpRefusal && /find/i.test(error.message))) throw error;
    }
  }
}

const nodePrefix = 'file-';
/** Smaller ones belong to QEMU's command line. */
const firstDescriptorSet = 100;

function descriptorSet(serial: string): number | undefined {
  const number = /^block-(\d+)$/.exec(serial)?.[1];
  return number === undefined ? undefined : firstDescriptorSet + Number(number);
}

function nodeName(position: string): string {
  return `${nodePrefix}${position}`;
}
