import { type Duplex, Readable } from 'node:stream';
import { AppError, abortError } from '../platform/errors.ts';
import { newContainerId, newSandboxId, type ContainerId, type SandboxId } from '../podsandbox/ids.ts';
import type {
  Container,
  ContainerConfig,
  Containers,
  ExecResult,
  PodSandboxes,
  ResourceUpdates,
  Sandbox,
  SandboxConfig,
  StreamSession,
} from '../podsandbox/model.ts';
import type { RelayRequest, StreamRequest } from './streaming/stream-request.ts';
import { PodEventSource } from '../podsandbox/pod-events.ts';
import type { Image, ImageArchives, ImageFileSystem, Images, NetworkState, RegistryAuth } from '../podsandbox/ports.ts';
import type { ContainerStats, PodStats, SandboxStats } from '../podsandbox/stats-model.ts';

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** Operations that can be made to fail or wait. */
export type FailPoint =
  | 'run'
  | 'stopSandbox'
  | 'removeSandbox'
  | 'create'
  | 'start'
  | 'stop'
  | 'remove'
  | 'reopenLog'
  | 'execSync'
  | 'pull'
  | 'import'
  | 'fsInfo';

const traffic = (bytes: bigint): { bytes: bigint; packets: bigint; errors: bigint; dropped: bigint } => ({
  bytes,
  packets: 1n,
  errors: 0n,
  dropped: 0n,
});

const pressureLine = { avg10: 1.5, avg60: 0, avg300: 0, totalUs: 42n };

/** As from a guest's agent, whose message types are nothing that src/cri knows. */
const fakeFigures = {
  cpu: {
    ...{ usageNs: 3_000_000_000n, userNs: 2_000_000_000n, systemNs: 1_000_000_000n },
    ...{ periods: 9n, throttledPeriods: 4n, throttledNs: 0n },
  },
  memory: {
    ...{ usage: 100n, workingSet: 60n, rss: 40n, cache: 30n, mappedFile: 20n, kernel: 10n, swap: 0n, peak: 120n },
    ...{ limit: 80n, swapLimit: 0n, limitHits: 0n, pageFaults: 11n, majorPageFaults: 1n },
  },
  writableLayer: { timeNs: 17n, bytes: 4096n, inodes: 1n },
  descriptors: { open: 4n, sockets: 1n, openFilesLimit: 1024n },
  disks: [{ device: '254:0', readBytes: 1n, writeBytes: 2n, reads: 3n, writes: 4n }],
  hugepages: [{ pageSize: '2MB', usageBytes: 0n, limitHits: 0n }],
  processes: 2n,
  threads: 3n,
  threadsLimit: 0n,
  oomKills: 0n,
  cpuPressure: { some: pressureLine, full: undefined },
} as unknown as ContainerStats['figures'];

const fakeScratch = { bytes: 10n << 30n, inodes: 100n, inodesFree: 98n } as NonNullable<SandboxStats['scratch']>;

/**
 * Sandboxes, containers and images in memory, with the behaviour that src/podsandbox promises and no
 * VM behind it. Time is a counter, so that ids and times are distinct and increasing.
 */
export class FakeDomain {
  readonly failures = new Map<FailPoint, unknown>();
  /** Operations that hang until they are aborted. */
  readonly hanging = new Set<FailPoint>();
  /** What happened, in order: `stop <id> 30`. */
  readonly calls: string[] = [];
  readonly auths: (RegistryAuth | undefined)[] = [];
  /** What the program of a container does once it is started. */
  program: (container: Container) => void = () => undefined;
  network: NetworkState = { ready: true, reason: '', message: '' };
  execResult: ExecResult = { stdout: Buffer.from('out'), stderr: Buffer.from('err'), exitCode: 0 };

  /** What exec and attach do; the number is the exit code. */
  session: (session: StreamSession, signal: AbortSignal, argv: readonly string[]) => Promise<number> = async () => 0;
  /** What listens on the ports of pods. */
  listener: (port: number, stream: Duplex, signal: AbortSignal) => Promise<void> = async (port) => {
    throw new AppError('unavailable', `nothing listens on port ${String(port)}`);
  };

  readonly #sandboxes = new Map<string, Mutable<Sandbox>>();
  readonly #containers = new Map<string, Mutable<Container>>();
  readonly #images = new Map<string, Image>();
  #clock = 1_700_000_000_000_000_000n;

  #now(): bigint {
    this.#clock += 1_000_000n;
    return this.#clock;
  }

  async #point(name: FailPoint, signal?: AbortSignal): Promise<void> {
    if (this.failures.has(name)) throw this.failures.get(name);
    if (!this.hanging.has(name) || signal === undefined) return;
    const turn = Promise.withResolvers<never>();
    signal.addEventListener('abort', () => {
      this.calls.push(`aborted ${name}`);
      turn.reject(abortError(signal, name));
    });
    await turn.promise;
  }

  #resolve<Id extends string>(
    all: ReadonlyMap<string, { readonly id: Id }>,
    prefix: string,
    what: string,
  ): Id | undefined {
    const found = [...all.values()].filter(({ id }) => id.startsWith(prefix));
    if (found.length > 1) throw new AppError('invalid', `${what} id "${prefix}" is ambiguous`);
    return found[0]?.id;
  }

  addImage(image: Partial<Image> & Pick<Image, 'id'>): Image {
    const whole: Image = {
      repoTags: [],
      repoDigests: [],
      sizeBytes: 4096n,
      config: {
        entrypoint: [],
        cmd: ['sh'],
        env: [],
        workingDir: '',
        user: '',
        stopSignal: '',
        volumes: [],
        labels: {},
      },
      pinned: false,
      spec: { architecture: 'amd64' },
      ...image,
    };
    this.#images.set(whole.id, whole);
    return whole;
  }

  /** As when a container's program ends by itself. */
  exit(id: string, exitCode: number): void {
    const container = this.#container(id);
    container.state = 'exited';
    container.exitCode = exitCode;
    container.reason = exitCode === 0 ? 'Completed' : 'Error';
    container.finishedAt = this.#now();
  }

  #container(id: string): Mutable<Container> {
    const container = this.#containers.get(id);
    if (container === undefined) throw new AppError('not-found', `no container "${id}"`);
    return container;
  }

  readonly sandboxes: PodSandboxes = {
    run: async (config: SandboxConfig, runtimeHandler: string, signal: AbortSignal): Promise<SandboxId> => {
      const { name, namespace, uid, attempt } = config.metadata;
      const key = [name, namespace, uid, attempt].join('_');
      const taken = [...this.#sandboxes.values()].some(
        ({ config: { metadata: m } }) => [m.name, m.namespace, m.uid, m.attempt].join('_') === key,
      );
      if (taken) throw new AppError('already-exists', `pod sandbox ${key} exists`);
      await this.#point('run', signal);
      const id = newSandboxId();
      this.#sandboxes.set(id, {
        id,
        config,
        runtimeHandler,
        createdAt: this.#now(),
        state: 'ready',
        reason: '',
        ips: ['10.1.0.2', 'fd00::2'],
        vmId: id.slice(0, 16),
        vmOrigin: 'pool',
        machineId: '0'.repeat(32),
        pid: 4242,
        netns: '/run/netns/fake',
      });
      return id;
    },
    stop: async (id: string): Promise<void> => {
      this.calls.push(`stopSandbox ${id}`);
      await this.#point('stopSandbox');
      const sandbox = this.#sandboxes.get(id);
      if (sandbox === undefined) return;
      for (const container of this.#containers.values()) {
        if (container.sandboxId === id && container.state === 'running') this.exit(container.id, 137);
      }
      sandbox.state = 'notready';
      sandbox.ips = [];
    },
    remove: async (id: string): Promise<void> => {
      this.calls.push(`removeSandbox ${id}`);
      await this.#point('removeSandbox');
      for (const container of [...this.#containers.values()])
        if (container.sandboxId === id) this.#containers.delete(container.id);
      this.#sandboxes.delete(id);
    },
    get: (id: string): Sandbox => {
      const sandbox = this.#sandboxes.get(id);
      if (sandbox === undefined) throw new AppError('not-found', `no pod sandbox "${id}"`);
      return { ...sandbox };
    },
    list: () => [...this.#sandboxes.values()].map((sandbox) => ({ ...sandbox })),
    traces: () => [
      {
        request: 'RunPodSandbox',
        startedAt: 1_700_000_000_000_000_000n,
        ms: 7,
        steps: [{ name: 'claim', startMs: 0.5, ms: 6, depth: 0 }],
      },
    ],
    resolve: (prefix: string) => this.#resolve<SandboxId>(this.#sandboxes, prefix, 'pod sandbox'),
    portForward: (_id, port, stream, signal) => this.listener(port, stream, signal),
  };

  readonly containers: Containers = {
    create: async (sandboxId: SandboxId, config: ContainerConfig, signal: AbortSignal): Promise<ContainerId> => {
      const sandbox = this.sandboxes.get(sandboxId);
      if (sandbox.state !== 'ready') throw new AppError('failed-precondition', `pod sandbox ${sandboxId} is not ready`);
      const image = this.images.find(config.image);
      if (image === undefined) throw new AppError('not-found', `no image "${config.image}"`);
      await this.#point('create', signal);
      const id = newContainerId();
      const { logDirectory } = sandbox.config;
      this.#containers.set(id, {
        id,
        sandboxId,
        config,
        state: 'created',
        createdAt: this.#now(),
        startedAt: 0n,
        finishedAt: 0n,
        exitCode: 0,
        reason: '',
        message: '',
        imageId: image.id,
        imageRef: image.repoDigests[0] ?? image.id,
        logPath: logDirectory === '' || config.logPath === '' ? '' : `${logDirectory}/${config.logPath}`,
        user: { uid: config.security.runAsUser ?? 0, gid: config.security.runAsGroup ?? 0, supplementalGroups: [] },
        stopSignal: config.stopSignal ?? 15,
        pid: 0,
        resources: config.resources,
      });
      return id;
    },
    start: async (id: ContainerId, signal: AbortSignal): Promise<void> => {
      const container = this.#container(id);
      if (container.state !== 'created')
        throw new AppError('failed-precondition', `container ${id} is ${container.state}`);
      await this.#point('start', signal);
      container.state = 'running';
      container.startedAt = this.#now();
      container.pid = 7;
      this.program({ ...container });
    },
    stop: async (id: string, timeoutSeconds: number, signal: AbortSignal): Promise<void> => {
      this.calls.push(`stop ${id} ${String(timeoutSeconds)}`);
      await this.#point('stop', signal);
      if (this.#containers.get(id)?.state === 'running') this.exit(id, 137);
    },
    remove: async (id: string): Promise<void> => {
      this.calls.push(`remove ${id}`);
      await this.#point('remove');
      this.#containers.delete(id);
    },
    get: (id: string): Container => ({ ...this.#container(id) }),
    list: () => [...this.#containers.values()].map((container) => ({ ...container })),
    traces: () => [{ request: 'CreateContainer', startedAt: 1_700_000_000_010_000_000n, ms: 3, steps: [] }],
    resolve: (prefix: string) => this.#resolve<ContainerId>(this.#containers, prefix, 'container'),
    reopenLog: async (id: ContainerId): Promise<void> => {
      if (this.#container(id).state !== 'running')
        throw new AppError('failed-precondition', `container ${id} does not run`);
      this.calls.push(`reopenLog ${id}`);
      await this.#point('reopenLog');
    },
    execSync: async (id, command, timeoutSeconds, signal): Promise<ExecResult> => {
      this.calls.push(`execSync ${command.join(' ')} ${String(timeoutSeconds)}`);
      if (this.#container(id).state !== 'running')
        throw new AppError('failed-precondition', `container ${id} does not run`);
      await this.#point('execSync', signal);
      return this.execResult;
    },
    exec: async (id, argv, tty, session, signal): Promise<{ exitCode: number }> => {
      this.calls.push(`exec ${argv.join(' ')} ${tty ? 'tty' : 'pipes'}`);
      this.containers.interactive(id);
      return { exitCode: await this.session(session, signal, argv) };
    },
    attach: async (id, session, signal): Promise<void> => {
      this.calls.push(`attach`);
      this.containers.interactive(id);
      await this.session(session, signal, []);
    },
    interactive: (id): { tty: boolean; stdin: boolean } => {
      const { state, config } = this.#container(id);
      if (state !== 'running') throw new AppError('failed-precondition', `container ${id} does not run`);
      return { tty: config.tty, stdin: config.stdin };
    },
  };

  readonly resources: ResourceUpdates = {
    container: async (id, change) => {
      this.calls.push(`update ${id} ${String(change.memoryLimitBytes)}`);
      this.#container(id).resources = change;
    },
    sandbox: async (id, { resources, overhead }) => {
      const [sum = 0n, beside = 0n] = [resources?.memoryLimitBytes, overhead?.memoryLimitBytes];
      this.calls.push(`updateSandbox ${id} ${String(sum)}+${String(beside)}`);
    },
  };

  readonly events = new PodEventSource(10);

  /** Sandboxes whose guest does not answer. */
  readonly hung = new Set<string>();

  readonly stats: PodStats = {
    of: async (ids) =>
      this.sandboxes
        .list()
        .filter(({ id, state }) => ids.includes(id) && state === 'ready')
        .map((sandbox) => ({
          sandbox,
          usage: {
            at: this.#now(),
            cpuNs: 9_000n,
            memory: undefined,
            pressure: { cpu: undefined, memory: undefined, io: undefined },
            interfaces: ['eth0', 'net1'].map((name) => ({ name, received: traffic(1n), sent: traffic(2n) })),
          },
          nanoCores: undefined,
          answered: !this.hung.has(sandbox.id),
          containers: this.hung.has(sandbox.id)
            ? []
            : this.containers
                .list()
                .filter(({ sandboxId }) => sandboxId === sandbox.id)
                .map((container) => ({ container, at: this.#now(), figures: fakeFigures, nanoCores: 5n })),
          scratch: this.hung.has(sandbox.id) ? undefined : fakeScratch,
        })),
  };

  readonly images: Images = {
    mountpoint: '/var/lib/kelyfos/images',
    pull: async (reference: string, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<string> => {
      this.auths.push(auth);
      await this.#point('pull', signal);
      const known = this.images.find(reference);
      return known?.id ?? this.addImage({ id: `sha256:${'a'.repeat(64)}`, repoTags: [reference] }).id;
    },
    find: (reference: string): Image | undefined =>
      [...this.#images.values()].find(
        (image) =>
          image.id === reference ||
          image.id === `sha256:${reference}` ||
          image.repoTags.includes(reference) ||
          image.repoDigests.includes(reference),
      ),
    list: () => [...this.#images.values()],
    remove: async (reference: string): Promise<void> => {
      const image = this.images.find(reference);
      if (image !== undefined) this.#images.delete(image.id);
    },
    fsInfo: async (): Promise<ImageFileSystem> => {
      await this.#point('fsInfo');
      return {
        mountpoint: '/var/lib/kelyfos',
        images: { usedBytes: 12_345n, inodesUsed: 67n },
        containers: { usedBytes: 89n, inodesUsed: 1n },
        at: new Date(1_700_000_000_000),
      };
    },
    rootfs: (id: string) => `/var/lib/kelyfos/images/${id}`,
  };

  /** What was imported: name, tag, bytes. */
  readonly imported: string[] = [];
  /** Archives are texts: those whose import fails begin with "bad". */
  readonly archives: ImageArchives = {
    import: async (archive, name, tag, signal) => {
      const text = Buffer.concat(await Array.fromAsync(archive)).toString();
      this.imported.push(`${name} ${tag ?? '-'} ${text.slice(0, 20)} ${String(text.length)}`);
      await this.#point('import', signal);
      if (text.startsWith('bad')) throw new AppError('invalid', `${name} is no archive`);
      return [{ id: `sha256:${'e'.repeat(64)}`, tags: [tag ?? 'from/archive:1'] }];
    },
    export: (reference, format) => {
      if (this.images.find(reference) === undefined) throw new AppError('not-found', `image ${reference} is not here`);
      return Readable.from([Buffer.from(`${format} of `), Buffer.from(reference)]);
    },
  };

  readonly streamRequests: (StreamRequest | RelayRequest)[] = [];
  readonly streaming = {
    urlFor: (request: StreamRequest | RelayRequest): string => {
      this.streamRequests.push(request);
      return `http://127.0.0.1:1/${request.kind}/token`;
    },
  };

  podCidrs: readonly string[] = [];
  readonly networks = {
    state: (): NetworkState => this.network,
    setPodCidrs: (cidrs: readonly string[]): void => {
      this.podCidrs = cidrs;
    },
  };
}
