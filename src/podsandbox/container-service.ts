import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { CleanupStack } from '../platform/cleanup-stack.ts';
import { abortError, AppError, messageOf, wrap, type ErrorKind } from '../platform/errors.ts';
import type { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { Log } from '../platform/log.ts';
import { nowNs, type ContainerEnd } from './container-end.ts';
import { injectCdiDevices } from './cdi/inject.ts';
import { abandonDisks, attachDisks, releaseDisks } from './container-disks.ts';
import { containerSpec } from './container-spec.ts';
import { resolveDevices } from './devices.ts';
import { execSync } from './exec-sync.ts';
import { guestHostname } from './guest-setup.ts';
import { attach } from './interactive/attach.ts';
import { exec } from './interactive/exec.ts';
import type { SessionSlots } from './interactive/session-slots.ts';
import { imageVolumeFailure, resolveImageVolumes } from './image-volumes.ts';
import { newContainerId, type ContainerId, type SandboxId } from './ids.ts';
import type { Container, ContainerConfig, Containers, ExecResult, StreamSession } from './model.ts';
import type { Image, Images, Vm, VolumeBinder } from './ports.ts';
import type { ContainerRecord } from './records.ts';
import type { ContainerEntry, Registry, SandboxEntry } from './registry.ts';
import { signalNumber, sigkill } from './signals.ts';
import { absoluteLogPath, containerSnapshot, isVisible, KeptSnapshots } from './snapshots.ts';
import type { TraceBook } from './trace-book.ts';
import type { RequestTrace, TraceParent } from './trace-model.ts';
import { containerSubject } from './trace-subject.ts';
import { bindVolumes, unbindVolumes } from './volumes.ts';

export interface ContainerServiceOptions {
  readonly registry: Registry;
  readonly images: Images;
  readonly binder: VolumeBinder;
  /** Where CDI files are; a later folder wins. */
  readonly cdiFolders: readonly string[];
  readonly end: ContainerEnd;
  /** One lock per sandbox id, shared with the sandbox service. */
  readonly locks: KeyedMutex;
  /** Shared with the sandbox service. */
  readonly slots: SessionSlots;
  readonly traces: TraceBook;
  readonly log: Log;
}

/** After SIGKILL the exit and the last output must arrive within this time. */
const killedMs = 30_000;
/** How an agent says that it did not start a program; after anything else the program may run. */
const refusals: ReadonlySet<ErrorKind> = new Set(['failed-precondition', 'not-found', 'invalid']);
/** For the news that a VM has died to reach its containers. */
const settleMs = 1_000;

/** The life of containers inside ready sandboxes. */
export class ContainerService implements Containers {
  readonly #options: ContainerServiceOptions;
  readonly #listed = new KeptSnapshots(containerSnapshot);

  constructor(options: ContainerServiceOptions) {
    this.#options = options;
  }

  create(
    sandboxId: SandboxId,
    config: ContainerConfig,
    signal: AbortSignal,
    caller?: TraceParent,
  ): Promise<ContainerId> {
    const { registry, images, locks } = this.#options;
    return locks.run(sandboxId, async () => {
      const sandbox = registry.sandbox(sandboxId);
      const vm = readyVm(sandbox);
      if (config.security.privileged && !sandbox.record.config.privileged)
        throw new AppError('invalid', `a privileged container in pod sandbox "${sandboxId}", which is not privileged`);
      refuseOtherUsers(sandbox.record, config);
      const image = images.find(config.image);
      if (image === undefined) throw new AppError('not-found', `image "${config.image}" is not present; pull it first`);
      const twin = [...sandbox.containers].find(({ record }) => sameName(record.config, config));
      if (twin !== undefined) {
        throw new AppError(
          'already-exists',
          `container name "${config.metadata.name}" attempt ${String(config.metadata.attempt)} is taken by "${twin.record.id}"`,
        );
      }
      return this.#make(sandbox, vm, image, resolveImageVolumes(config, images), signal, caller);
    });
  }

  start(id: ContainerId, signal: AbortSignal, caller?: TraceParent): Promise<void> {
    const { registry, locks, end, traces } = this.#options;
    const entry = registry.container(id);
    return locks.run(entry.record.sandboxId, async () => {
      const { phase } = registry.container(id).record;
      if (phase !== 'created')
        throw new AppError('failed-precondition', `container "${id}" is ${phase}, only a created one can be started`);
      const vm = readyVm(entry.sandbox);
      if (signal.aborted) throw abortError(signal, `start container "${id}"`);
      const open = traces.begin('StartContainer', {
        ...containerSubject(id, entry.sandbox.record, entry.record.config),
        parent: caller,
      });
      const { trace } = open;
      const started = Promise.withResolvers<boolean>();
      // Beside the start: opening the log and asking for the output would otherwise follow it, and compete with the program.
      end.watch(entry, absoluteLogPath(entry), {
        started: started.promise,
        firstLine: () => {
          open.reached('first log line');
        },
      });
      try {
        // Without the caller's signal: once asked, the guest starts the program whether anybody waits or not.
        const startedAt = await trace.step('start in guest', () => vm.agent.startContainer(id));
        await trace.step('record running', () => registry.updateContainer(id, { phase: 'running', startedAt }));
      } catch (error) {
        const failure = wrap(error, `start container "${entry.record.config.metadata.name}"`);
        open.end(failure);
        if (error instanceof AppError && refusals.has(error.kind)) {
          started.resolve(false);
          await entry.pump?.stop();
          await end.startFailed(entry, messageOf(error));
          throw failure;
        }
        // Cut off: the program may run. It is shown as running, so that its output, its exit and StopContainer reach it.
        await registry.updateContainer(id, { phase: 'running', startedAt: nowNs() });
        throw failure;
      } finally {
        started.resolve(true);
      }
      // Who has started a container may look into its log.
      await trace.step('open log', async () => entry.pump?.opened());
      open.end();
    });
  }

  async stop(id: string, timeoutSeconds: number, signal: AbortSignal): Promise<void> {
    const entry = this.#options.registry.findContainer(id);
    if (entry?.record.phase !== 'running') return;
    if (timeoutSeconds > 0 && (await this.#endsByItself(entry, timeoutSeconds * 1000, signal))) return;
    if (signal.aborted) throw abortError(signal, `stop container "${id}"`);
    await this.#kill(entry);
  }

  /** Sends the stop signal, once over all calls, and waits out the grace period. */
  async #endsByItself(entry: ContainerEntry, graceMs: number, signal: AbortSignal): Promise<boolean> {
    const deadline = Date.now() + graceMs;
    if (!entry.stopSignalSent) {
      entry.stopSignalSent = true;
      const { id, stopSignal } = entry.record;
      try {
        const grace = AbortSignal.any([signal, AbortSignal.timeout(graceMs)]);
        await readyVm(entry.sandbox).agent.signalContainer(id, stopSignal, false, grace);
      } catch (error) {
        entry.stopSignalSent = false;
        this.#options.log.warn({ containerId: id, reason: messageOf(error) }, 'the stop signal could not be sent');
      }
    }
    return exitsWithin(entry, Math.max(0, deadline - Date.now()), signal);
  }

  async remove(id: string): Promise<void> {
    const { registry, locks } = this.#options;
    const entry = registry.findContainer(id);
    if (entry === undefined) return;
    await locks.run(entry.record.sandboxId, async () => {
      if (registry.findContainer(id) === undefined) return; // removed while waiting
      const { vm } = entry.sandbox;
      if (vm !== undefined && entry.sandbox.record.phase === 'ready') {
        if (entry.record.phase === 'running') await this.#killForRemoval(entry);
        await entry.pump?.stop();
        await vm.agent.removeContainer(entry.record.id);
        await unbindVolumes(vm.share, entry.record.id);
        await releaseDisks(entry.sandbox, vm, entry);
      }
      await entry.pump?.stop();
      await registry.removeContainer(entry.record.id);
    });
  }

  get(id: string): Container {
    return containerSnapshot(this.#options.registry.container(id));
  }

  list(): readonly Container[] {
    return this.#options.registry
      .containers()
      .filter(isVisible)
      .map((entry) => this.#listed.of(entry));
  }

  resolve(prefix: string): ContainerId | undefined {
    return this.#options.registry.resolveContainer(prefix);
  }

  traces(id: ContainerId): readonly RequestTrace[] {
    return this.#options.traces.of(id);
  }

  async reopenLog(id: ContainerId): Promise<void> {
    const entry = this.#options.registry.container(id);
    if (entry.record.phase !== 'running' || entry.pump === undefined) {
      throw new AppError(
        'failed-precondition',
        `container "${id}" is ${entry.record.phase}, only the log of a running one can be reopened`,
      );
    }
    await entry.pump.reopen();
  }

  async exec(
    id: ContainerId,
    argv: readonly string[],
    tty: boolean,
    session: StreamSession,
    signal: AbortSignal,
  ): Promise<{ readonly exitCode: number }> {
    const entry = this.#running(id);
    using _slot = this.#options.slots.take(entry.record.sandboxId);
    return await exec(readyVm(entry.sandbox).agent, { containerId: id, argv, tty }, session, signal);
  }

  async attach(id: ContainerId, session: StreamSession, signal: AbortSignal): Promise<void> {
    const { sandbox, record, pump } = this.#running(id);
    const { agent: guest } = readyVm(sandbox);
    if (pump === undefined)
      throw new AppError('unavailable', `the output of container "${id}" is not read yet: its guest does not answer`);
    const { tty, stdinOnce } = record.config;
    using _slot = this.#options.slots.take(record.sandboxId);
    await attach({ containerId: id, guest, pump, tty, stdinOnce, log: this.#options.log }, session, signal);
  }

  interactive(id: ContainerId): { readonly tty: boolean; readonly stdin: boolean } {
    return this.#running(id).record.config;
  }

  async execSync(
    id: ContainerId,
    command: readonly string[],
    timeoutSeconds: number,
    signal: AbortSignal,
  ): Promise<ExecResult> {
    const entry = this.#running(id);
    return execSync(
      readyVm(entry.sandbox).agent,
      { containerId: id, command, timeoutSeconds, log: this.#options.log },
      signal,
    );
  }

  #running(id: ContainerId): ContainerEntry {
    const entry = this.#options.registry.container(id);
    const { phase } = entry.record;
    if (phase === 'running') return entry;
    throw new AppError('failed-precondition', `container "${id}" is ${phase}, not running`);
  }

  async #make(
    sandbox: SandboxEntry,
    vm: Vm,
    image: Image,
    config: ContainerConfig,
    signal: AbortSignal,
    caller: TraceParent | undefined,
  ): Promise<ContainerId> {
    const { registry, binder, images, traces } = this.#options;
    const id = newContainerId();
    const open = traces.begin('CreateContainer', { ...containerSubject(id, sandbox.record, config), parent: caller });
    const { trace } = open;
    const cleanup = new CleanupStack();
    try {
      cleanup.defer('record', () => registry.removeContainer(id));
      const stopSignal = config.stopSignal ?? signalNumber(image.config.stopSignal);
      const entry = await trace.step('record intent', () =>
        registry.addContainer(newRecord(id, sandbox, image, config, stopSignal)),
      );
      const effective = await injectCdiDevices(config, this.#options.cdiFolders);
      const devices = await trace.step('resolve devices', () => resolveDevices(effective.devices));
      let inGuest = false;
      // A guest that may still have it mounted keeps its disk: another image in its place would be read as this one.
      cleanup.defer('disks', async () => {
        if (!inGuest) await abandonDisks(sandbox, vm, entry);
      });
      const disks = await trace.step('attach disks', () =>
        attachDisks(
          entry,
          vm,
          images,
          effective,
          devices,
          (attached) => registry.updateContainer(id, { disks: attached }),
          signal,
        ),
      );
      cleanup.defer('volumes', () => unbindVolumes(vm.share, id));
      const volumes = await trace.step('bind volumes', () => bindVolumes(vm, id, effective.mounts, binder));
      const spec = containerSpec({
        id,
        config: effective,
        image,
        disks,
        devices,
        volumes,
        hostname: guestHostname(sandbox.record.config),
        seccompProfile: await readSeccompProfile(config),
      });
      cleanup.defer('container in the guest', async () => {
        await vm.agent.removeContainer(id);
        inGuest = false;
      });
      inGuest = true;
      const { pid, user } = await trace.step('create in guest', () => vm.agent.createContainer(spec, signal));
      if (signal.aborted) throw abortError(signal, 'create container');
      await trace.step('record created', () =>
        registry.updateContainer(id, {
          phase: 'created',
          createdAt: nowNs(),
          guestPid: pid,
          user: { uid: user?.uid ?? 0, gid: user?.gid ?? 0, supplementalGroups: user?.additionalGids ?? [] },
        }),
      );
      cleanup.commit();
      open.end();
      return id;
    } catch (error) {
      const failure = imageVolumeFailure(error) ?? wrap(error, `create container "${config.metadata.name}"`);
      // What cannot be undone goes with the sandbox; the container itself never became visible.
      await cleanup.unwind().catch((leftover: unknown) => {
        this.#options.log.error(
          { containerId: id, sandboxId: sandbox.record.id, err: leftover },
          'a container that failed to be created could not be cleaned up',
        );
      });
      open.end(failure);
      throw failure;
    }
  }

  /** Its output may be stuck, on a full disk for instance; the container goes all the same. */
  async #killForRemoval(entry: ContainerEntry): Promise<void> {
    try {
      await this.#kill(entry);
    } catch (error) {
      this.#options.log.warn(
        { containerId: entry.record.id, reason: messageOf(error) },
        'removing a container whose end was not seen',
      );
    }
  }

  async #kill(entry: ContainerEntry): Promise<void> {
    const limit = AbortSignal.timeout(killedMs);
    try {
      await entry.sandbox.vm?.agent.signalContainer(entry.record.id, sigkill, true, limit);
    } catch (error) {
      // Its VM may have died meanwhile, which ends it as well.
      if (!(await exitsWithin(entry, settleMs, limit))) throw error;
    }
    if (!(await exitsWithin(entry, killedMs, limit))) {
      throw new AppError(
        'unavailable',
        `container "${entry.record.id}" survives SIGKILL for ${String(killedMs / 1000)} s`,
      );
    }
  }
}

function readyVm(sandbox: SandboxEntry): Vm {
  const { id, phase } = sandbox.record;
  if (phase !== 'ready' || sandbox.vm === undefined)
    throw new AppError('failed-precondition', `pod sandbox "${id}" is not ready`);
  return sandbox.vm;
}

/** True when the container exited; false when the time passed or the caller went. */
async function exitsWithin(entry: ContainerEntry, ms: number, signal: AbortSignal): Promise<boolean> {
  const waiting = new AbortController();
  const patience = delay(ms, undefined, { signal: AbortSignal.any([signal, waiting.signal]) }).catch(() => undefined);
  await Promise.race([entry.exited, patience]);
  waiting.abort();
  return entry.record.phase === 'exited';
}

/** Containers are in their pod's user namespace, whether they say so or nothing. */
function refuseOtherUsers(sandbox: SandboxEntry['record'], config: ContainerConfig): void {
  const { users } = config.security.namespaces;
  if (users === undefined || isDeepStrictEqual(users, sandbox.config.namespaces.users ?? 'node')) return;
  throw new AppError(
    'invalid',
    `user namespace of container "${config.metadata.name}" is not that of its pod sandbox "${sandbox.id}"`,
  );
}

function sameName(a: ContainerConfig, b: ContainerConfig): boolean {
  return a.metadata.name === b.metadata.name && a.metadata.attempt === b.metadata.attempt;
}

async function readSeccompProfile({ security }: ContainerConfig): Promise<Uint8Array | undefined> {
  const { type, localhostRef } = security.seccomp;
  if (type !== 'localhost' || security.privileged) return undefined;
  try {
    return await readFile(localhostRef);
  } catch (error) {
    throw wrap(error, `seccomp profile "${localhostRef}"`, 'invalid');
  }
}

function newRecord(
  id: ContainerId,
  sandbox: SandboxEntry,
  image: Image,
  config: ContainerConfig,
  stopSignal: number,
): ContainerRecord {
  return {
    id,
    sandboxId: sandbox.record.id,
    config,
    resources: config.resources,
    phase: 'creating',
    imageId: image.id,
    imageRef: image.repoDigests[0] ?? image.id,
    disks: [],
    createdAt: nowNs(),
    startedAt: 0n,
    finishedAt: 0n,
    exitCode: 0,
    reason: '',
    message: '',
    user: { uid: 0, gid: 0, supplementalGroups: [] },
    stopSignal,
    guestPid: 0,
  };
}
