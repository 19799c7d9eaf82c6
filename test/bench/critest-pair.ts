import { CritestMirror } from '../critest/mirror.ts';
import { TestNetwork } from '../harness/cni.ts';
import { TestContainerd } from '../harness/containerd.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { fullPools } from './full-pools.ts';

/** kelyfos and containerd with runc on one host, with the images that critest wants. Neither knows of the other. */
export class CritestPair implements AsyncDisposable {
  readonly #daemon: TestDaemon;
  readonly #containerd: TestContainerd;
  readonly #started: AsyncDisposableStack;

  private constructor(daemon: TestDaemon, containerd: TestContainerd, started: AsyncDisposableStack) {
    this.#daemon = daemon;
    this.#containerd = containerd;
    this.#started = started;
  }

  /** `pool`: virtual machines kept ready. */
  static async start({ pool }: { readonly pool: number }): Promise<CritestPair> {
    await using started = new AsyncDisposableStack();
    const mirror = started.use(await CritestMirror.start());
    const network = started.use(await TestNetwork.create());
    const containerd = started.use(await TestContainerd.start({ network, registryHosts: mirror.containerdHosts }));
    const config = { log: { level: 'info' }, vm: { classes: { default: { pool } } } };
    const daemon = started.use(await TestDaemon.start({ registry: mirror, network, accelerator: 'auto', config }));
    return new CritestPair(daemon, containerd, started.move());
  }

  get subjects(): readonly { readonly name: 'kelyfos' | 'containerd'; readonly endpoint: string }[] {
    return [
      { name: 'kelyfos', endpoint: `unix://${this.#daemon.socket}` },
      { name: 'containerd', endpoint: this.#containerd.endpoint },
    ];
  }

  get own(): TestDaemon['cri'] {
    return this.#daemon.cri;
  }

  /** Returns when nothing is prepared in the background. */
  async rest(): Promise<void> {
    await fullPools(this.#daemon.cri);
  }

  /** For whoever has to find out why something failed. */
  async dump(): Promise<string> {
    return await this.#daemon.dump();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#started.disposeAsync();
  }
}
