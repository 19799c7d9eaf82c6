import { randomBytes } from 'node:crypto';
import type { Admission } from '../platform/admission.ts';
import type { Duplex } from 'node:stream';
import { abortError, AppError, messageOf, wrap } from '../platform/errors.ts';
import { CleanupStack } from '../platform/cleanup-stack.ts';
import { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { Log } from '../platform/log.ts';
import { alignClock } from './guest-clock.ts';
import { guestSetup } from './guest-setup.ts';
import { portForward } from './interactive/port-forward.ts';
import type { SessionSlots } from './interactive/session-slots.ts';
import { newSandboxId, reservedSandboxId, type SandboxId } from './ids.ts';
import { nowNs } from './container-end.ts';
import type { PodSandboxes, Sandbox, SandboxConfig, SandboxMetadata } from './model.ts';
import type { PodNetworkRequest, PodNetworks, Vm, VmProvider, VmRequest } from './ports.ts';
import type { Registry, SandboxEntry } from './registry.ts';
import type { SandboxEnd } from './sandbox-end.ts';
import { isVisible, KeptSnapshots, sandboxSnapshot } from './snapshots.ts';
import type { TraceBook } from './trace-book.ts';
import { sandboxSubject } from './trace-subject.ts';
import type { RequestTrace, TraceParent } from './trace-model.ts';

export interface SandboxServiceOptions {
  readonly registry: Registry;
  readonly vms: VmProvider;
  readonly networks: PodNetworks;
  readonly end: SandboxEnd;
  /** One lock per sandbox id, shared with the container service. */
  readonly locks: KeyedMutex;
  /** Shared with the container service. */
  readonly slots: SessionSlots;
  readonly traces: TraceBook;
  /** Pods beyond what the host can start at once wait their turn. */
  readonly admission: Admission;
  /** VM class of each runtime handler. */
  readonly handlers: ReadonlyMap<string, { readonly className: string }>;
  readonly defaultHandler: string;
  readonly log: Log;
}

/** RunPodSandbox, StopPodSandbox, RemovePodSandbox and what they leave to look at. */
export class PodSandboxService implements PodSandboxes {
  readonly #options: SandboxServiceOptions;
  /** Names being made, so that a second RunPodSandbox of the same name waits for the first to end. */
  readonly #names = new KeyedMutex();
  readonly #listed = new KeptSnapshots(sandboxSnapshot, ({ pid }, { vm }) => pid === (vm?.pid ?? 0));

  constructor(options: SandboxServiceOptions) {
    this.#options = options;
  }

  async run(
    config: SandboxConfig,
    runtimeHandler: string,
    signal: AbortSignal,
    caller?: TraceParent,
  ): Promise<SandboxId> {
    const request = this.#vmRequest(config, runtimeHandler);
    refuseHostNamespaces(config);
    const name = uniqueName(config.metadata);
    return this.#names.run(name, async () => {
      const holder = this.#options.registry
        .sandboxes()
        .find(({ record }) => uniqueName(record.config.metadata) === name);
      if (holder !== undefined)
        throw new AppError('already-exists', `pod sandbox name "${name}" is taken by "${holder.record.id}"`);
      return this.#make(config, runtimeHandler, request, signal, caller);
    });
  }

  async stop(id: string): Promise<void> {
    const entry = this.#options.registry.findSandbox(id);
    if (entry === undefined) return;
    await this.#options.locks.run(id, () => this.#options.end.end(entry, ''));
  }

  async remove(id: string): Promise<void> {
    const { registry, locks, end } = this.#options;
    const entry = registry.findSandbox(id);
    if (entry === undefined) return;
    await locks.run(id, async () => {
      if (registry.findSandbox(id) === undefined) return; // removed while waiting
      await end.end(entry, '');
      for (const container of entry.containers) await registry.removeContainer(container.record.id);
      await registry.removeSandbox(entry.record.id);
    });
  }

  get(id: string): Sandbox {
    return sandboxSnapshot(this.#options.registry.sandbox(id));
  }

  list(): readonly Sandbox[] {
    return this.#options.registry
      .sandboxes()
      .filter(isVisible)
      .map((entry) => this.#listed.of(entry));
  }

  traces(id: SandboxId): readonly RequestTrace[] {
    return this.#options.traces.of(id);
  }

  async portForward(id: SandboxId, port: number, stream: Duplex, signal: AbortSignal): Promise<void> {
    const { record, vm } = this.#options.registry.sandbox(id);
    if (record.phase !== 'ready' || vm === undefined)
      throw new AppError('failed-precondition', `pod sandbox "${id}" is not ready`);
    // Refused, the client would give up all its connections.
    using _slot = await this.#options.slots.wait(id, signal);
    await portForward(vm.agent, port, stream, signal);
  }

  resolve(prefix: string): SandboxId | undefined {
    return this.#options.registry.resolveSandbox(prefix);
  }

  async #make(
    config: SandboxConfig,
    runtimeHandler: string,
    request: VmRequest,
    signal: AbortSignal,
    caller: TraceParent | undefined,
  ): Promise<SandboxId> {
    const { registry, vms, networks, end, locks, traces, admission, log } = this.#options;
    let id = newSandboxId();
    const open = traces.begin('RunPodSandbox', { ...sandboxSubject(id, config), parent: caller });
    const { trace } = open;
    const cleanup = new CleanupStack();
    let made: SandboxEntry['record'] | undefined;
    let leave = (): void => undefined;
    try {
      leave = await trace.step('wait for turn', () => admission.enter('wait for a turn', signal));
      // Before the record: a machine that no record has is swept by the next daemon, and its network with it.
      const vm = await trace.step('claim', (parts) => vms.claim(request, parts, signal));
      if (vm.podId !== undefined) id = reservedSandboxId(vm.podId);
      cleanup.defer('record', () => registry.removeSandbox(id));
      cleanup.defer('virtual machine', () => vm.destroy());
      cleanup.defer('network', () => networks.detach(id, vm.netns));
      open.identify(id);
      open.note('kelyfos.vm.id', vm.id);
      open.note('kelyfos.vm.origin', vm.origin);
      const record = newRecord(id, config, runtimeHandler, vm);
      made = record;
      const { machineId } = record;
      const entry = await trace.step('record intent', () => registry.addSandbox(record));
      entry.vm = vm;
      // Both have ended before either is undone.
      const [attached, joined] = await Promise.allSettled([
        trace.step('network', (parts) => networks.attach(networkRequest(id, vm.netns, config), signal, parts)),
        trace.step('cgroup', () => vm.joinCgroup(config.cgroupParent)),
      ]);
      if (attached.status === 'rejected') throw attached.reason;
      if (joined.status === 'rejected') throw joined.reason;
      const network = attached.value;
      const { clockNs } = await trace.step('configure guest', () =>
        vm.agent.configureSandbox(
          guestSetup({
            config,
            network,
            shareTag: vm.shareTag,
            machineId,
            entropy: randomBytes(64),
          }),
          signal,
        ),
      );
      await trace.step('align clock', () => alignClock(vm.agent, clockNs, log.child({ sandboxId: id }), signal));
      if (signal.aborted) throw abortError(signal, 'run pod sandbox');
      await trace.step('record ready', () =>
        registry.updateSandbox(id, { phase: 'ready', createdAt: nowNs(), ips: network.ips }),
      );
      cleanup.commit();
      open.end();
      end.watch(entry, (work) => locks.run(id, work));
      return id;
    } catch (error) {
      const failure = wrap(error, `run pod sandbox ${config.metadata.namespace}/${config.metadata.name}`);
      try {
        await cleanup.unwind();
      } catch (leftover) {
        // Whatever stayed behind must stay visible, so that StopPodSandbox and RemovePodSandbox can finish it.
        log.error({ sandboxId: id, err: leftover }, 'a pod sandbox that failed to start could not be cleaned up');
        const ending = { phase: 'ending' as const, reason: messageOf(leftover) };
        if (registry.findSandbox(id) !== undefined) await registry.updateSandbox(id, ending);
        else if (made !== undefined) await registry.addSandbox({ ...made, ...ending });
      }
      open.end(failure);
      throw failure;
    } finally {
      leave();
    }
  }

  #vmRequest(config: SandboxConfig, runtimeHandler: string): VmRequest {
    const { handlers, defaultHandler } = this.#options;
    const handler = handlers.get(runtimeHandler === '' ? defaultHandler : runtimeHandler);
    if (handler === undefined) {
      throw new AppError(
        'invalid',
        `runtime handler "${runtimeHandler}" is not configured; known: ${[...handlers.keys()].join(', ')}`,
      );
    }
    const period = config.resources?.cpuPeriod ?? 0n;
    const quota = config.resources?.cpuQuota ?? 0n;
    const memory = config.resources?.memoryLimitBytes ?? 0n;
    return {
      className: handler.className,
      ...(period > 0n && quota > 0n ? { vcpus: Math.ceil(Number(quota) / Number(period)) } : {}),
      ...(memory > 0n ? { memoryBytes: Number(memory) } : {}),
    };
  }
}

function newRecord(
  id: SandboxId,
  config: SandboxConfig,
  runtimeHandler: string,
  vm: Pick<Vm, 'id' | 'origin' | 'netns'>,
): SandboxEntry['record'] {
  return {
    id,
    config,
    resources: config.resources,
    overhead: config.overhead,
    runtimeHandler,
    createdAt: nowNs(),
    phase: 'creating',
    reason: '',
    vmId: vm.id,
    vmOrigin: vm.origin,
    machineId: randomBytes(16).toString('hex'),
    netns: vm.netns,
    ips: [],
  };
}

function uniqueName({ name, namespace, uid, attempt }: SandboxMetadata): string {
  return `${name}_${namespace}_${uid}_${String(attempt)}`;
}

function refuseHostNamespaces(config: SandboxConfig): void {
  const { network, pid, ipc } = config.namespaces;
  const asked = Object.entries({ network, pid, ipc }).flatMap(([which, mode]) => (mode === 'node' ? [which] : []));
  if (asked.length === 0) return;
  throw new AppError(
    'failed-precondition',
    `pod ${config.metadata.namespace}/${config.metadata.name} asks for the host's ${asked.join(', ')} namespace, ` +
      'which a virtual machine cannot give; such pods need another runtime on the node (a RuntimeClass of its own)',
  );
}

function networkRequest(id: SandboxId, netns: string, config: SandboxConfig): PodNetworkRequest {
  const { metadata, annotations } = config;
  const ingressRate = bandwidth(annotations, 'kubernetes.io/ingress-bandwidth');
  const egressRate = bandwidth(annotations, 'kubernetes.io/egress-bandwidth');
  return {
    sandboxId: id,
    netns,
    podName: metadata.name,
    podNamespace: metadata.namespace,
    podUid: metadata.uid,
    cgroupParent: config.cgroupParent,
    portMappings: config.portMappings.filter(({ hostPort }) => hostPort > 0),
    dns: config.dns ?? { servers: [], searches: [], options: [] },
    ...(ingressRate === undefined && egressRate === undefined
      ? {}
      : {
          bandwidth: {
            ...(ingressRate === undefined ? {} : { ingressRate }),
            ...(egressRate === undefined ? {} : { egressRate }),
          },
        }),
  };
}

const quantitySuffixes: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** A Kubernetes quantity in bits per second. */
function bandwidth(annotations: Readonly<Record<string, string>>, key: string): number | undefined {
  const text = annotations[key];
  if (text === undefined) return undefined;
  const [, digits, suffix] = /^(\d+(?:\.\d+)?)([kMGT]|[KMGT]i)?$/.exec(text) ?? [];
  const scale = quantitySuffixes[suffix ?? ''];
  if (digits === undefined || scale === undefined)
    throw new AppError('invalid', `annotation ${key}: "${text}" is not a quantity such as 10M`);
  return Math.floor(Number(digits) * scale);
}
