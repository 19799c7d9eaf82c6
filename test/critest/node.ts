import { TestNetwork } from '../harness/cni.ts';
import { TestContainerd } from '../harness/containerd.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { waitForPool } from '../harness/pool.ts';
import { CritestMirror } from './mirror.ts';

/** Pods at a time in the parallel run. */
export const parallelPods = 4;

/** A node as critest wants one: kelyfos, with containerd for pods in the host's namespaces, or containerd alone. */
export class CritestNode implements AsyncDisposable {
  readonly endpoint: string;
  readonly #daemon: TestDaemon | undefined;
  readonly #containerd: TestContainerd;
  readonly #started: AsyncDisposableStack;

  private constructor(containerd: TestContainerd, daemon: TestDaemon | undefined, started: AsyncDisposableStack) {
    this.#containerd = containerd;
    this.#daemon = daemon;
    this.#started = started;
    this.endpoint = daemon === undefined ? containerd.endpoint : `unix://${daemon.socket}`;
  }

  static async start(runtime: 'kelyfos' | 'containerd'): Promise<CritestNode> {
    await using started = new AsyncDisposableStack();
    const mirror = started.use(await CritestMirror.start());
    const network = started.use(await TestNetwork.create());
    const containerd = started.use(await TestContainerd.start({ network, registryHosts: mirror.containerdHosts }));
    if (runtime === 'containerd') return new CritestNode(containerd, undefined, started.move());
    const config = {
      host_runtime: { endpoint: containerd.endpoint },
      vm: { classes: { default: { pool: parallelPods } } },
    };
    const daemon = started.use(await TestDaemon.start({ registry: mirror, network, config }));
    if (!(await waitForPool(daemon.cri))) throw new Error('the pool did not fill');
    return new CritestNode(containerd, daemon, started.move());
  }

  /** The logs of what runs here, by name. */
  async logs(): Promise<Readonly<Record<string, string>>> {
    const containerd = await this.#containerd.log();
    return this.#daemon === undefined ? { containerd } : { containerd, kelyfos: await this.#daemon.log() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#started.disposeAsync();
  }
}
