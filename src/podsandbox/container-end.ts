import type { Exit } from '../agent/gen/agent/v1/agent_pb.js';
import type { Log } from '../platform/log.ts';
import { OutputPump, outputStart } from './output-pump.ts';
import type { Records } from './records.ts';
import type { ContainerEntry, Registry } from './registry.ts';

/** Exit code for a container whose own was never learnt: its VM died with it. */
const unknownExitCode = 255;
/** Shell convention for a program that could not be executed, as the peers report it. */
const startErrorCode = 128;

export function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

export interface WatchOptions {
  /** Its exit is recorded after this, and not if it says that the container could not be started. */
  readonly started?: Promise<boolean>;
  /** Called once the first of the output is in the log file. */
  readonly firstLine?: () => void;
}

/** How containers come to an end, and how their last output gets there first. */
export class ContainerEnd {
  readonly #registry: Registry;
  readonly #records: Records;
  readonly #log: Log;

  constructor(registry: Registry, records: Records, log: Log) {
    this.#registry = registry;
    this.#records = records;
    this.#log = log;
  }

  /**
   * Begins, or after a restart goes on, to carry the container's output; its exit is recorded after the last byte.
   */
  watch(entry: ContainerEntry, logPath: string | undefined, { started, firstLine }: WatchOptions = {}): void {
    const { id, sandboxId } = entry.record;
    const source = entry.sandbox.vm?.agent;
    if (source === undefined) return;
    entry.pump = OutputPump.start({
      source,
      containerId: id,
      logPath,
      checkpoint: this.#records.checkpoints.get(id) ?? outputStart,
      save: (checkpoint) => this.#records.checkpoints.put(id, checkpoint),
      onExit: async (exit) => {
        if ((await started) !== false) await this.#exited(entry, exit);
      },
      firstLine,
      log: this.#log.child({ containerId: id, sandboxId }),
    });
  }

  /** StartContainer failed: the program cannot be executed. */
  async startFailed(entry: ContainerEntry, message: string): Promise<void> {
    await this.#registry.updateContainer(entry.record.id, {
      phase: 'exited',
      startedAt: 0n,
      finishedAt: nowNs(),
      exitCode: startErrorCode,
      reason: 'StartError',
      message,
      guestPid: 0,
    });
  }

  /** The VM is gone, and with it whatever was not read. */
  async lost(entry: ContainerEntry, message: string): Promise<void> {
    await entry.pump?.stop();
    await this.#registry.updateContainer(entry.record.id, {
      phase: 'exited',
      finishedAt: nowNs(),
      exitCode: unknownExitCode,
      reason: 'Error',
      message,
      guestPid: 0,
    });
  }

  async #exited(entry: ContainerEntry, exit: Exit): Promise<void> {
    const reason = exit.oomKilled
      ? 'OOMKilled'
      : exit.error !== ''
        ? 'StartError'
        : exit.code === 0
          ? 'Completed'
          : 'Error';
    await this.#registry.updateContainer(entry.record.id, {
      phase: 'exited',
      finishedAt: exit.exitedAtNs,
      exitCode: exit.code,
      reason,
      message: exit.error,
      guestPid: 0,
    });
  }
}
