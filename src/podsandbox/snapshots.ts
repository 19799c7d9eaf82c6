import { join } from 'node:path';
import type { Container, Sandbox } from './model.ts';
import type { ContainerEntry, SandboxEntry } from './registry.ts';

/** What is not made yet is nobody's business; recovery, or the call that makes it, undoes it. */
export function isVisible({ record }: SandboxEntry | ContainerEntry): boolean {
  return record.phase !== 'creating';
}

/** What others see of a sandbox, as it is right now. */
export function sandboxSnapshot(entry: SandboxEntry): Sandbox {
  const { id, config, runtimeHandler, createdAt, phase, reason, ips, vmId, vmOrigin, machineId, netns } = entry.record;
  const state = phase === 'ready' ? 'ready' : 'notready';
  return {
    id,
    config,
    runtimeHandler,
    createdAt,
    state,
    reason,
    ips,
    vmId,
    vmOrigin,
    machineId,
    netns,
    pid: entry.vm?.pid ?? 0,
  };
}

/** What others see of a container, as it is right now. */
export function containerSnapshot(entry: ContainerEntry): Container {
  const { record } = entry;
  const { id, sandboxId, config, phase, createdAt, startedAt, finishedAt, exitCode, reason, message } = record;
  const { imageId, imageRef, user, stopSignal } = record;
  return {
    id,
    sandboxId,
    config,
    state: phase === 'creating' ? 'unknown' : phase,
    createdAt,
    startedAt,
    finishedAt,
    exitCode,
    reason,
    message,
    imageId,
    imageRef,
    logPath: absoluteLogPath(entry) ?? '',
    user,
    stopSignal,
    pid: phase === 'running' ? record.guestPid : 0,
    resources: record.resources,
  };
}

/**
 * Snapshots for lists, which are asked for every second: the same object until something has changed.
 * Records are replaced, never changed, so a snapshot is as good as the record that it was made from.
 */
export class KeptSnapshots<Entry extends { readonly record: object }, Snapshot> {
  readonly #kept = new WeakMap<object, Snapshot>();
  readonly #make: (entry: Entry) => Snapshot;
  /** Of what a snapshot says beyond the record. */
  readonly #holds: (snapshot: Snapshot, entry: Entry) => boolean;

  constructor(make: (entry: Entry) => Snapshot, holds: (snapshot: Snapshot, entry: Entry) => boolean = () => true) {
    this.#make = make;
    this.#holds = holds;
  }

  of(entry: Entry): Snapshot {
    const kept = this.#kept.get(entry.record);
    if (kept !== undefined && this.#holds(kept, entry)) return kept;
    const snapshot = this.#make(entry);
    this.#kept.set(entry.record, snapshot);
    return snapshot;
  }
}

export function absoluteLogPath({ record, sandbox }: ContainerEntry): string | undefined {
  const folder = sandbox.record.config.logDirectory;
  return record.config.logPath === '' || folder === '' ? undefined : join(folder, record.config.logPath);
}
