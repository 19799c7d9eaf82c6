import { join } from 'node:path';
import { silentLog, type Log } from '../../platform/log.ts';
import { QemuVmProvider } from '../provider.ts';
import { MemoryWatch } from '../memory-watch.ts';
import { TemplateStore } from '../template-store.ts';
import { Templates } from '../templates.ts';
import { VmClasses, vmClassDefaults, type VmClass } from '../vm-class.ts';
import { VmFactory, type VmOrder } from '../vm-factory.ts';
import { FailPoints } from './fail-points.ts';
import { type FakeAgent, FakeGuest, type FakeHost, fakeHost, FakeHypervisor, FakeMemories } from './fake-host.ts';

export const mebibyte = 1024 * 1024;

export const smallClass: VmClass = {
  ...vmClassDefaults,
  name: 'small',
  memoryBytes: 256 * mebibyte,
  scratchBytes: 64 * mebibyte,
  poolSize: 0,
};

export const guestImage = { folder: '/guest', key: 'guest-1', kernelRelease: '6.1', agentVersion: '0.1.0' };

export const order: VmOrder = {
  className: 'small',
  scratchBytes: 64 * mebibyte,
  shape: {
    accelerator: 'tcg',
    vcpus: 1,
    memoryBytes: 256 * mebibyte,
    translationBytes: 64 * mebibyte,
    slotBytes: 1024 * mebibyte,
    extraArguments: [],
    guest: guestImage,
  },
};

/** The VM side of a daemon on fakes; `restarted` is a later daemon on the same host. */
export interface Fixture {
  readonly fail: FailPoints;
  readonly host: FakeHost;
  readonly hypervisor: FakeHypervisor;
  readonly guest: FakeGuest;
  readonly memories: FakeMemories;
  readonly factory: VmFactory<FakeAgent>;
  readonly templates: Templates<FakeAgent>;
  /** Ends the making of templates, as the daemon does when it stops. */
  readonly stopping: AbortController;
  /** Of the host; two bytes are enough here. */
  readonly memory: { availableBytes: number };
  provider(classes: readonly VmClass[], templatePatienceMs?: number): QemuVmProvider<FakeAgent>;
  restarted(): Fixture;
}

export async function fixture(log: Log = silentLog()): Promise<Fixture> {
  const fail = new FailPoints();
  const host = await fakeHost(fail);
  return build(fail, host, new FakeHypervisor(fail), new FakeMemories(fail), log);
}

function build(
  fail: FailPoints,
  host: FakeHost,
  hypervisor: FakeHypervisor,
  memories: FakeMemories,
  log: Log,
): Fixture {
  const guest = new FakeGuest(fail);
  const memory = { availableBytes: 2 };
  const stopping = new AbortController();
  const site = host.services;
  const factory = new VmFactory({ hypervisor, guest, site, log });
  const templates = new Templates({
    hypervisor,
    guest,
    factory,
    store: new TemplateStore(join(host.folder, 'state', 'templates'), memories, log),
    log,
    makeTimeoutMs: 5_000,
    stopping: stopping.signal,
    settleMs: 0,
  });
  return {
    fail,
    host,
    hypervisor,
    guest,
    memories,
    factory,
    templates,
    stopping,
    memory,
    provider: (classes, templatePatienceMs = 5_000) =>
      new QemuVmProvider({
        classes: new VmClasses(classes),
        guestImage,
        imageBytes: order.shape.slotBytes,
        accelerator: 'tcg',
        hypervisor,
        guest,
        factory,
        templates,
        site,
        memory: new MemoryWatch({
          reserveBytes: 1,
          read: () => Promise.resolve({ availableBytes: memory.availableBytes, stalledPercent: 0 }),
          log,
        }),
        log,
        bootTimeoutMs: 5_000,
        templatePatienceMs,
      }),
    restarted: () => build(fail, host, hypervisor, memories, log),
  };
}
