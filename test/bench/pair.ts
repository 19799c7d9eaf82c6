import { join } from 'node:path';
import { buildBusyboxImage } from '../harness/busybox-image.ts';
import { TestNetwork } from '../harness/cni.ts';
import { TestContainerd } from '../harness/containerd.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { TestRegistry } from '../harness/registry.ts';
import { outputFile } from './compared-output.ts';
import { fullPools } from './full-pools.ts';
import { Subject } from './subject.ts';

export interface PairOptions {
  /** Virtual machines kept ready. */
  readonly pool: number;
  readonly rehearse?: boolean;
  /** As many more in a class of their own that holds the image ready. */
  readonly warm?: boolean;
}

const warmHandler = 'warm';

/** kelyfos and containerd with runc on one host, with one registry and one pod network. */
export class BenchPair implements AsyncDisposable {
  readonly own: Subject;
  /** The same daemon, with machines that hold the image ready, if there are any. */
  readonly warm: Subject;
  readonly peer: Subject;
  readonly registry: TestRegistry;
  /** busybox, which both have. */
  readonly image: string;
  readonly #daemon: TestDaemon;
  readonly #started: AsyncDisposableStack;

  private constructor(
    parts: { daemon: TestDaemon; containerd: TestContainerd; registry: TestRegistry; image: string },
    started: AsyncDisposableStack,
  ) {
    const { daemon, containerd, registry, image } = parts;
    this.#daemon = daemon;
    this.registry = registry;
    this.image = image;
    this.#started = started;
    // Of the peer as well: machines that are made for a pool would slow it down.
    const rest = (): Promise<void> => fullPools(daemon.cri);
    const own = { cri: daemon.cri, pid: daemon.pid, scratch: daemon.scratch, rest };
    this.own = new Subject('kelyfos', own);
    this.warm = new Subject('kelyfos, image held ready', { ...own, handler: warmHandler });
    this.peer = new Subject('containerd', {
      cri: containerd.cri,
      pid: containerd.pid,
      scratch: join(containerd.folder, 'scratch'),
      rest,
    });
  }

  static async start({ pool, rehearse = true, warm = false }: PairOptions): Promise<BenchPair> {
    await using started = new AsyncDisposableStack();
    const images = await freeFolder('images');
    started.defer(() => removeFolder(images));
    const registry = started.use(await TestRegistry.start());
    const network = started.use(await TestNetwork.create());
    const name = 'kelyfos/busybox:test';
    const image = `${registry.host}/${name}`;
    const files = { [outputFile.path]: outputFile.content };
    await registry.push((await buildBusyboxImage(images, { files })).folder, name);
    const containerd = started.use(await TestContainerd.start({ network }));
    const config = {
      // What it writes when it serves pods in earnest.
      log: { level: 'info' },
      vm: {
        classes: {
          default: { pool, rehearse },
          ...(warm ? { [warmHandler]: { pool, rehearse, warm_images: [image] } } : {}),
        },
      },
      handlers: warm ? { [warmHandler]: { class: warmHandler } } : {},
    };
    const daemon = started.use(await TestDaemon.start({ registry, network, accelerator: 'auto', config }));
    for (const { cri } of [daemon, containerd]) await cri.call('PullImage', { image: { image } });
    return new BenchPair({ daemon, containerd, registry, image }, started.move());
  }

  get socket(): string {
    return this.#daemon.socket;
  }

  get both(): readonly [own: Subject, peer: Subject] {
    return [this.own, this.peer];
  }

  /** For whoever has to find out why something failed. */
  async dump(): Promise<string> {
    return this.#daemon.dump();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#started.disposeAsync();
  }
}
