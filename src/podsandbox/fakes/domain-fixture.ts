import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '../../platform/log.ts';
import { Store } from '../../store/store.ts';
import { createDomain, type Domain } from '../domain.ts';
import type { ContainerId, SandboxId } from '../ids.ts';
import type { ContainerConfig, NamespaceOptions, SandboxConfig } from '../model.ts';
import { openRecords, type Records } from '../records.ts';
import { FakeImages } from './fake-images.ts';
import { FakeNetworks } from './fake-networks.ts';
import { FakeVms, type FakeVm } from './fake-vms.ts';
import { TraceRecorder } from './trace-recorder.ts';

/** The signal of a caller that stays. */
export const never = new AbortController().signal;

export const podNamespaces: NamespaceOptions = { network: 'pod', pid: 'container', ipc: 'pod', targetId: '' };

/** The real domain on a real store, round it fakes that outlive it as virtual machines outlive the daemon. */
export class DomainFixture implements AsyncDisposable {
  readonly folder: string;
  readonly vms: FakeVms;
  readonly networks = new FakeNetworks();
  readonly traced = new TraceRecorder();
  /** Of the next daemon. */
  concurrentStarts = 100;
  #running: { readonly store: Store; readonly domain: Domain } | undefined;

  private constructor(folder: string) {
    this.folder = folder;
    this.vms = new FakeVms(folder);
  }

  static async create(): Promise<DomainFixture> {
    const fixture = new DomainFixture(await mkdtemp(join(tmpdir(), 'kelyfos-domain-')));
    await fixture.start();
    return fixture;
  }

  get domain(): Domain {
    if (this.#running === undefined) throw new Error('the daemon does not run');
    return this.#running.domain;
  }

  /** The records behind the running daemon's back. */
  get records(): Records {
    if (this.#running === undefined) throw new Error('the daemon does not run');
    return openRecords(this.#running.store);
  }

  async start(): Promise<void> {
    const store = Store.open(join(this.folder, 'state.lmdb'));
    const domain = createDomain({
      store,
      vms: this.vms,
      networks: this.networks,
      images: new FakeImages(),
      cdiFolders: [join(this.folder, 'cdi')],
      binder: { bind: () => Promise.resolve() },
      handlers: new Map([['kelyfos', { className: 'default' }]]),
      defaultHandler: 'kelyfos',
      concurrentStarts: this.concurrentStarts,
      traceSink: this.traced.sink,
      log: silentLog(),
    });
    this.#running = { store, domain };
    await domain.recover();
  }

  /** A daemon that dies does no cleaning up. */
  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.domain.close();
    await running?.store.close();
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  sandboxConfig(name = 'web', change: Partial<SandboxConfig> = {}): SandboxConfig {
    return {
      metadata: { name, uid: 'u1', namespace: 'default', attempt: 0 },
      hostname: name,
      logDirectory: join(this.folder, 'logs'),
      dns: undefined,
      portMappings: [],
      labels: { app: 'web' },
      annotations: {},
      cgroupParent: '',
      sysctls: {},
      privileged: false,
      namespaces: podNamespaces,
      resources: undefined,
      overhead: undefined,
      ...change,
    };
  }

  async runPod(name?: string): Promise<{ readonly id: SandboxId; readonly vm: FakeVm }> {
    const id = await this.domain.sandboxes.run(this.sandboxConfig(name), '', never);
    const vm = this.vms.alive.at(-1);
    if (vm === undefined) throw new Error('no virtual machine');
    return { id, vm };
  }

  async startContainer(sandbox: SandboxId, program?: string, name?: string): Promise<ContainerId> {
    const id = await this.domain.containers.create(sandbox, containerConfig(program, name), never);
    await this.domain.containers.start(id, never);
    return id;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.folder, { recursive: true });
  }
}

export function containerConfig(program = 'run', name = 'app'): ContainerConfig {
  return {
    metadata: { name, attempt: 0 },
    image: 'busybox',
    userSpecifiedImage: 'busybox',
    imageAnnotations: {},
    command: [program],
    args: [],
    workingDir: '',
    env: [],
    mounts: [],
    devices: [],
    cdiDevices: [],
    labels: {},
    annotations: {},
    logPath: `${name}/0.log`,
    stdin: false,
    stdinOnce: false,
    tty: false,
    resources: undefined,
    security: {
      privileged: false,
      capabilities: { add: [], drop: [], addAmbient: [] },
      namespaces: podNamespaces,
      runAsUser: undefined,
      runAsGroup: undefined,
      runAsUsername: '',
      supplementalGroups: [],
      strictSupplementalGroups: false,
      readonlyRootfs: false,
      noNewPrivileges: false,
      maskedPaths: [],
      readonlyPaths: [],
      seccomp: { type: 'unconfined', localhostRef: '' },
    },
    stopSignal: undefined,
  };
}

/** Waits for a condition that only other promises bring about. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  for (let turn = 0; !condition(); turn += 1) {
    if (turn > 2000) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
