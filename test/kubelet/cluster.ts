import { setTimeout as delay } from 'node:timers/promises';
import { buildBusyboxImage } from '../harness/busybox-image.ts';
import { TestNetwork } from '../harness/cni.ts';
import { TestContainerd } from '../harness/containerd.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { daemonRegister } from '../harness/daemon-register.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { waitForPool } from '../harness/pool.ts';
import { TestRegistry } from '../harness/registry.ts';
import { ControlPlane } from './control-plane.ts';
import { nodeName, TestKubelet } from './kubelet.ts';

const imageName = 'kelyfos/busybox:test';
/** Everything is emulated on two cores, and the kubelet looks about once a second. */
const waitMs = 180_000;

export interface ContainerState {
  readonly waiting?: { readonly reason?: string; readonly message?: string };
  readonly running?: { readonly startedAt: string };
  readonly terminated?: {
    readonly exitCode: number;
    readonly reason?: string;
    readonly message?: string;
    readonly startedAt: string;
    readonly finishedAt: string;
  };
}

export interface ContainerStatus {
  readonly name: string;
  readonly ready: boolean;
  readonly started?: boolean;
  readonly restartCount: number;
  readonly containerID?: string;
  readonly imageID: string;
  readonly state: ContainerState;
  readonly lastState: ContainerState;
  readonly resources?: Readonly<Record<'limits' | 'requests', Readonly<Record<string, string>> | undefined>>;
}

export interface PodStatus {
  readonly phase: string;
  readonly podIP?: string;
  readonly hostIP?: string;
  readonly reason?: string;
  readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason?: string }[];
  readonly containerStatuses?: readonly ContainerStatus[];
  readonly initContainerStatuses?: readonly ContainerStatus[];
}

export interface KubePod {
  readonly metadata: { readonly name: string; readonly uid: string };
  readonly status: PodStatus;
}

export type Manifest = Readonly<Record<string, unknown>>;

/** What docs/resources.md recommends: without an overhead a pod's limits would be those of its machine as well. */
const runtimeClass: Manifest = {
  apiVersion: 'node.k8s.io/v1',
  kind: 'RuntimeClass',
  metadata: { name: 'kelyfos' },
  handler: 'kelyfos',
  overhead: { podFixed: { memory: '160Mi', cpu: '100m' } },
};

/** A node of a Kubernetes cluster, and its control plane: kelyfos, with containerd for host pods, a kubelet, kube-apiserver. */
export class TestCluster implements AsyncDisposable {
  readonly plane: ControlPlane;
  readonly kubelet: TestKubelet;
  readonly daemon: TestDaemon;
  readonly image: string;
  readonly #started: AsyncDisposableStack;

  private constructor(
    parts: { readonly plane: ControlPlane; readonly kubelet: TestKubelet; readonly daemon: TestDaemon },
    image: string,
    started: AsyncDisposableStack,
  ) {
    this.plane = parts.plane;
    this.kubelet = parts.kubelet;
    this.daemon = parts.daemon;
    this.image = image;
    this.#started = started;
  }

  static async start(kubeletConfig: Manifest = {}): Promise<TestCluster> {
    await using started = new AsyncDisposableStack();
    const folder = await freeFolder('images');
    started.defer(() => removeFolder(folder));
    const busybox = await buildBusyboxImage(folder);
    const registry = started.use(await TestRegistry.start());
    await registry.push(busybox.folder, imageName);
    const network = started.use(await TestNetwork.create());
    const containerd = started.use(await TestContainerd.start({ network }));
    const plane = started.use(await ControlPlane.start());
    const config = {
      host_runtime: { endpoint: containerd.endpoint },
      vm: { classes: { default: { pool: 2 } } },
    };
    const daemon = started.use(await TestDaemon.start({ registry, network, config }));
    if (!(await waitForPool(daemon.cri))) throw new Error('the pool did not fill');
    const runtime = `unix://${daemon.socket}`;
    const options = { kubeconfig: plane.kubeconfig, runtime, config: kubeletConfig };
    const kubelet = started.use(await TestKubelet.start(options));
    const dump = { dump: async () => `==== kubelet\n${(await kubelet.log()).slice(-8000)}\n` };
    daemonRegister().add(dump);
    started.defer(() => {
      daemonRegister().delete(dump);
    });
    const cluster = new TestCluster({ plane, kubelet, daemon }, `${registry.host}/${imageName}`, started.move());
    await cluster.#waitForNode();
    await cluster.apply(runtimeClass);
    return cluster;
  }

  /** Pods are deleted by name, and gone before the kubelet is ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.plane.kubectl(['delete', 'pods', '--all', '--wait=false', '--grace-period=1']);
      if (this.kubelet.runs) await this.until('all pods are gone', async () => (await this.pods()).length === 0);
    } finally {
      await this.#started.disposeAsync();
    }
  }

  async #waitForNode(): Promise<void> {
    await this.until('the node is ready', async () => {
      const text = await this.plane.kubectl(['get', 'node', nodeName, '--ignore-not-found', '-o', 'json']);
      if (text === '') return false;
      const { status } = JSON.parse(text) as { readonly status: PodStatus };
      return status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;
    });
  }

  /** Waits for `holds`; the error says what was waited for, and what was the case last. */
  async until(what: string, holds: () => Promise<boolean>, show: () => unknown = () => ''): Promise<void> {
    for (const deadline = Date.now() + waitMs; !(await holds());) {
      if (Date.now() > deadline)
        throw new Error(`waited ${String(waitMs / 1000)} s in vain until ${what}: ${JSON.stringify(show())}`);
      await delay(200);
    }
  }

  async apply(...objects: readonly Manifest[]): Promise<void> {
    const list = { apiVersion: 'v1', kind: 'List', items: objects };
    await this.plane.kubectl(['apply', '-f', '-'], JSON.stringify(list));
  }

  /** A pod on the node, from its spec. Where a container names no image it is busybox. */
  async createPod(name: string, spec: PodSpec, metadata: Manifest = {}): Promise<void> {
    await this.apply(this.podManifest(name, spec, metadata));
  }

  podManifest(name: string, spec: PodSpec, metadata: Manifest = {}): Manifest {
    const withImage = (container: Manifest): Manifest => ({ image: this.image, ...container });
    const { containers, initContainers, ...rest } = spec;
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, ...metadata },
      spec: {
        nodeName,
        ...(rest['hostNetwork'] === true ? {} : { runtimeClassName: 'kelyfos' }),
        terminationGracePeriodSeconds: 5,
        ...rest,
        containers: containers.map(withImage),
        ...(initContainers === undefined ? {} : { initContainers: initContainers.map(withImage) }),
      },
    };
  }

  async pods(): Promise<readonly KubePod[]> {
    const text = await this.plane.kubectl(['get', 'pods', '-o', 'json']);
    return (JSON.parse(text) as { readonly items: readonly KubePod[] }).items;
  }

  async pod(name: string): Promise<KubePod> {
    return JSON.parse(await this.plane.kubectl(['get', 'pod', name, '-o', 'json'])) as KubePod;
  }

  /** The pod, once it is so. */
  async waitForPod(name: string, what: string, holds: (pod: KubePod) => boolean): Promise<KubePod> {
    let last: KubePod | undefined;
    await this.until(
      `pod ${name} ${what}`,
      async () => {
        last = await this.pod(name);
        return holds(last);
      },
      () => last?.status,
    );
    if (last === undefined) throw new Error(`no pod ${name}`);
    return last;
  }

  async waitForPhase(name: string, phase: string): Promise<KubePod> {
    return this.waitForPod(name, `is ${phase}`, ({ status }) => status.phase === phase);
  }

  async waitReady(name: string): Promise<KubePod> {
    return this.waitForPod(name, 'is ready', ({ status }) => condition(status, 'Ready'));
  }

  async deletePod(name: string): Promise<void> {
    await this.plane.kubectl(['delete', 'pod', name, '--wait=true', '--timeout=120s']);
  }

  /** `sh -c` in a container by ExecSync of CRI; its standard output, trimmed. */
  async sh(podName: string, script: string, container?: string): Promise<string> {
    const { status } = await this.pod(podName);
    const statuses = status.containerStatuses ?? [];
    const chosen = statuses.find(({ name }) => container === undefined || name === container);
    const id = chosen?.containerID?.replace(/^\w+:\/\//, '');
    if (id === undefined) throw new Error(`pod ${podName} has no container ${container ?? ''} that was started`);
    const done = await this.daemon.cri.call('ExecSync', { container_id: id, cmd: ['sh', '-c', script], timeout: '60' });
    if (done.exit_code !== 0)
      throw new Error(`exit code ${String(done.exit_code)}: ${Buffer.from(done.stderr).toString()}`);
    return Buffer.from(done.stdout).toString().trim();
  }
}

export interface PodSpec extends Manifest {
  readonly containers: readonly Manifest[];
  readonly initContainers?: readonly Manifest[];
}

export function condition(status: PodStatus, type: string): boolean {
  return status.conditions?.some((it) => it.type === type && it.status === 'True') === true;
}

/** The status of the pod's container, or of the one with that name. */
export function statusOf({ status }: KubePod, name?: string): ContainerStatus {
  const all = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  const found = name === undefined ? status.containerStatuses?.[0] : all.find((it) => it.name === name);
  if (found === undefined) throw new Error(`no status of container ${name ?? ''}: ${JSON.stringify(status)}`);
  return found;
}

/** A container that runs a script; `exec sleep` at its end lets it be stopped at once. */
export function script(name: string, text: string, more: Manifest = {}): Manifest {
  return { name, command: ['sh', '-c', text], ...more };
}
