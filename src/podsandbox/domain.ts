import { Admission } from '../platform/admission.ts';
import { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { Log } from '../platform/log.ts';
import type { Store } from '../store/store.ts';
import { ContainerEnd, nowNs } from './container-end.ts';
import { ContainerService } from './container-service.ts';
import { SessionSlots } from './interactive/session-slots.ts';
import type { Images, PodNetworks, VmProvider, VolumeBinder } from './ports.ts';
import { PodEventSource } from './pod-events.ts';
import { openRecords } from './records.ts';
import { recover, type RecoveryReport } from './recovery.ts';
import { Registry } from './registry.ts';
import { ResourceService } from './resource-service.ts';
import { SandboxEnd } from './sandbox-end.ts';
import { PodSandboxService } from './sandbox-service.ts';
import { containerSnapshot, isVisible, sandboxSnapshot } from './snapshots.ts';
import { StatsService } from './stats-service.ts';
import { TraceBook } from './trace-book.ts';
import type { TraceSink } from './trace-model.ts';

export interface DomainOptions {
  readonly store: Store;
  readonly vms: VmProvider;
  readonly networks: PodNetworks;
  readonly images: Images;
  readonly binder: VolumeBinder;
  readonly cdiFolders: readonly string[];
  /** VM class of each runtime handler. */
  readonly handlers: ReadonlyMap<string, { readonly className: string }>;
  readonly defaultHandler: string;
  /** Pods that are started at the same time. */
  readonly concurrentStarts: number;
  /** Where traces go besides; nowhere without. */
  readonly traceSink?: TraceSink | undefined;
  readonly log: Log;
}

export interface Domain {
  readonly sandboxes: PodSandboxService;
  readonly containers: ContainerService;
  readonly resources: ResourceService;
  readonly stats: StatsService;
  readonly events: PodEventSource;
  readonly admission: Pick<Admission, 'state'>;
  /** To be awaited before the first request is answered. */
  recover(): Promise<RecoveryReport>;
  /** Ends the output pumps; pods go on. */
  close(): Promise<void>;
}

/** Puts the parts of the domain together. */
export function createDomain(options: DomainOptions): Domain {
  const { store, vms, networks, images, binder, cdiFolders, handlers, defaultHandler, log } = options;
  const records = openRecords(store);
  const events = new PodEventSource();
  const registry = new Registry(records, log, (type, id, entry) => {
    const containers = [...entry.containers].filter(isVisible).map(containerSnapshot);
    events.publish({ type, id, at: nowNs(), sandbox: sandboxSnapshot(entry), containers });
    if (type === 'deleted') traces.forget(id);
  });
  const exists = (id: string): boolean =>
    registry.findSandbox(id) !== undefined || registry.findContainer(id) !== undefined;
  const traces = new TraceBook(records.traces, options.traceSink, exists, log);
  const locks = new KeyedMutex();
  const slots = new SessionSlots();
  const admission = new Admission(options.concurrentStarts);
  const containerEnd = new ContainerEnd(registry, records, log);
  const sandboxEnd = new SandboxEnd(registry, vms, networks, containerEnd, log);
  return {
    sandboxes: new PodSandboxService({
      registry,
      vms,
      networks,
      end: sandboxEnd,
      locks,
      slots,
      traces,
      admission,
      handlers,
      defaultHandler,
      log,
    }),
    containers: new ContainerService({
      registry,
      images,
      binder,
      cdiFolders,
      end: containerEnd,
      locks,
      slots,
      traces,
      log,
    }),
    resources: new ResourceService(registry, locks),
    stats: new StatsService(registry, log),
    events,
    admission,
    recover: async () => {
      const parts = { registry, vms, networks, containers: containerEnd, sandboxes: sandboxEnd, locks, log };
      const report = await recover(parts);
      traces.load();
      return report;
    },
    close: async () => {
      await Promise.all(registry.containers().map(async ({ pump }) => pump?.stop()));
    },
  };
}
