import { AppError } from '../platform/errors.ts';
import { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { Log } from '../platform/log.ts';
import type { ContainerId, SandboxId } from './ids.ts';
import type { LinuxResources } from './model.ts';
import type { OutputPump } from './output-pump.ts';
import type { Vm } from './ports.ts';
import type { ContainerPhase, ContainerRecord, Records, SandboxPhase, SandboxRecord } from './records.ts';

/** A sandbox as the daemon holds it: the record, which survives, and the handles, which do not. */
export interface SandboxEntry {
  readonly record: SandboxRecord;
  vm: Vm | undefined;
  readonly containers: Set<ContainerEntry>;
}

export interface ContainerEntry {
  readonly record: ContainerRecord;
  readonly sandbox: SandboxEntry;
  pump: OutputPump | undefined;
  /** Set once the stop signal was sent, so that a second StopContainer does not send it again. */
  stopSignalSent: boolean;
  /** Resolves when the record says exited. */
  readonly exited: Promise<undefined>;
}

/** What has just become of a sandbox or a container, once it is recorded. */
export type Change = 'created' | 'started' | 'stopped' | 'deleted';
export type ChangeListener = (change: Change, id: SandboxId | ContainerId, sandbox: SandboxEntry) => void;

interface OwnedContainer extends ContainerEntry {
  record: ContainerRecord;
  readonly settle: (value: undefined) => void;
}

interface OwnedSandbox extends SandboxEntry {
  record: SandboxRecord;
}

/**
 * All sandboxes and containers, in memory and in the store. The only place where a record changes:
 * the store first, then memory, so that nobody sees what a crash would take back.
 */
export class Registry {
  readonly #records: Records;
  readonly #log: Log;
  /** Called in the order of the changes, at once; whatever is not finished being made changes for nobody. */
  readonly #changed: ChangeListener;
  readonly #sandboxes = new Map<string, OwnedSandbox>();
  readonly #containers = new Map<string, OwnedContainer>();
  /** A change is read, written, then shown; two at once would lose one. */
  readonly #changes = new KeyedMutex();

  constructor(records: Records, log: Log, changed: ChangeListener = () => undefined) {
    this.#records = records;
    this.#log = log;
    this.#changed = changed;
  }

  /** Loads what an earlier daemon left. Containers without their sandbox are dropped. */
  async load(): Promise<void> {
    for (const { record } of this.#records.sandboxes.entries()) {
      this.#sandboxes.set(record.id, { record, vm: undefined, containers: new Set() });
    }
    for (const { record } of this.#records.containers.entries()) {
      const sandbox = this.#sandboxes.get(record.sandboxId);
      if (sandbox === undefined) {
        this.#log.warn(
          { containerId: record.id, sandboxId: record.sandboxId },
          'dropping a container without a sandbox',
        );
        await this.#records.containers.remove(record.id);
        await this.#records.checkpoints.remove(record.id);
      } else {
        this.#adopt(record, sandbox);
      }
    }
  }

  async addSandbox(record: SandboxRecord): Promise<SandboxEntry> {
    await this.#records.sandboxes.put(record.id, record);
    const entry: OwnedSandbox = { record, vm: undefined, containers: new Set() };
    this.#sandboxes.set(record.id, entry);
    return entry;
  }

  updateSandbox(id: SandboxId, change: Partial<Omit<SandboxRecord, 'id'>>): Promise<void> {
    return this.#changes.run(id, () => this.#changeSandbox(id, change));
  }

  async #changeSandbox(id: SandboxId, change: Partial<Omit<SandboxRecord, 'id'>>): Promise<void> {
    const entry = this.#ownedSandbox(id);
    const before = entry.record.phase;
    const record = { ...entry.record, ...change };
    await this.#records.sandboxes.put(id, record);
    entry.record = record;
    if (record.phase !== before) {
      this.#log.info(
        { sandboxId: id, from: before, to: record.phase, reason: record.reason },
        'pod sandbox changed state',
      );
      for (const change of sandboxChanges(before, record.phase)) this.#changed(change, id, entry);
    }
  }

  async removeSandbox(id: SandboxId): Promise<void> {
    const entry = this.#sandboxes.get(id);
    await this.#records.sandboxes.remove(id);
    this.#sandboxes.delete(id);
    if (entry !== undefined && entry.record.phase !== 'creating') this.#changed('deleted', id, entry);
  }

  async addContainer(record: ContainerRecord): Promise<ContainerEntry> {
    const sandbox = this.#ownedSandbox(record.sandboxId);
    await this.#records.containers.put(record.id, record);
    return this.#adopt(record, sandbox);
  }

  updateContainer(id: ContainerId, change: Partial<Omit<ContainerRecord, 'id' | 'sandboxId'>>): Promise<void> {
    return this.#changes.run(id, () => this.#changeContainer(id, change));
  }

  async #changeContainer(id: ContainerId, change: Partial<Omit<ContainerRecord, 'id' | 'sandboxId'>>): Promise<void> {
    const entry = this.#ownedContainer(id);
    const before = entry.record.phase;
    if (before === 'exited') return; // final: a late exit must not change what clients have seen
    const record = { ...entry.record, ...change };
    await this.#records.containers.put(id, record);
    entry.record = record;
    if (record.phase !== before) {
      const { exitCode, reason } = record;
      this.#log.info(
        {
          containerId: id,
          sandboxId: record.sandboxId,
          from: before,
          to: record.phase,
          ...(record.phase === 'exited' ? { exitCode, reason } : {}),
        },
        'container changed state',
      );
      const change = containerChange(record.phase);
      if (change !== undefined) this.#changed(change, id, entry.sandbox);
    }
    if (record.phase === 'exited') entry.settle(undefined);
  }

  /** The one thing of a container that may change after its end. */
  setContainerResources(id: ContainerId, resources: LinuxResources): Promise<void> {
    return this.#changes.run(id, async () => {
      const entry = this.#ownedContainer(id);
      const record = { ...entry.record, resources };
      await this.#records.containers.put(id, record);
      entry.record = record;
    });
  }

  async removeContainer(id: ContainerId): Promise<void> {
    const entry = this.#containers.get(id);
    await Promise.all([this.#records.containers.remove(id), this.#records.checkpoints.remove(id)]);
    this.#containers.delete(id);
    if (entry === undefined) return;
    entry.sandbox.containers.delete(entry);
    if (entry.record.phase !== 'creating') this.#changed('deleted', id, entry.sandbox);
  }

  sandbox(id: string): SandboxEntry {
    return this.#ownedSandbox(id);
  }

  findSandbox(id: string): SandboxEntry | undefined {
    return this.#sandboxes.get(id);
  }

  container(id: string): ContainerEntry {
    return this.#ownedContainer(id);
  }

  findContainer(id: string): ContainerEntry | undefined {
    return this.#containers.get(id);
  }

  sandboxes(): SandboxEntry[] {
    return [...this.#sandboxes.values()];
  }

  containers(): ContainerEntry[] {
    return [...this.#containers.values()];
  }

  resolveSandbox(prefix: string): SandboxId | undefined {
    return resolve(
      [...this.#sandboxes.values()].map((entry) => entry.record.id),
      prefix,
      'pod sandbox',
    );
  }

  resolveContainer(prefix: string): ContainerId | undefined {
    return resolve(
      [...this.#containers.values()].map((entry) => entry.record.id),
      prefix,
      'container',
    );
  }

  #adopt(record: ContainerRecord, sandbox: SandboxEntry): ContainerEntry {
    const { promise, resolve: settle } = Promise.withResolvers<undefined>();
    const entry: OwnedContainer = { record, sandbox, pump: undefined, stopSignalSent: false, exited: promise, settle };
    if (record.phase === 'exited') settle(undefined);
    this.#containers.set(record.id, entry);
    sandbox.containers.add(entry);
    return entry;
  }

  #ownedSandbox(id: string): OwnedSandbox {
    const entry = this.#sandboxes.get(id);
    if (entry === undefined) throw new AppError('not-found', `pod sandbox "${id}" not found`);
    return entry;
  }

  #ownedContainer(id: string): OwnedContainer {
    const entry = this.#containers.get(id);
    if (entry === undefined) throw new AppError('not-found', `container "${id}" not found`);
    return entry;
  }
}

/** A sandbox begins to run with being made; it has stopped when nothing of it is left but the record. */
function sandboxChanges(before: SandboxPhase, after: SandboxPhase): readonly Change[] {
  if (after === 'ready') return ['created', 'started'];
  return after === 'ended' && before !== 'creating' ? ['stopped'] : [];
}

function containerChange(phase: ContainerPhase): Change | undefined {
  switch (phase) {
    case 'creating':
      return undefined;
    case 'created':
      return 'created';
    case 'running':
      return 'started';
    case 'exited':
      return 'stopped';
  }
}

function resolve<T extends string>(ids: readonly T[], prefix: string, what: string): T | undefined {
  if (prefix === '') throw new AppError('invalid', `${what} id is empty`);
  const matches = ids.filter((candidate) => candidate.startsWith(prefix));
  if (matches.length > 1 && !matches.includes(prefix as T)) {
    throw new AppError('invalid', `${what} id "${prefix}" is ambiguous: ${String(matches.length)} start with it`);
  }
  return matches.includes(prefix as T) ? (prefix as T) : matches[0];
}
