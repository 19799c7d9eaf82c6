import { createHash } from 'node:crypto';
import { access, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { writeOciLayout } from '../harness/oci-layout.ts';
import { TestRegistry } from '../harness/registry.ts';
import { fillBusybox, fillEscalation, fillNginx, imageInputs, layerOf } from './image-roots.ts';
import { type Extra, hostNetworkPort, testImages } from './images.ts';

const cache = process.env['KELYFOS_CACHE'] ?? '/var/cache/kelyfos';
const registries = ['registry.k8s.io', 'gcr.io', 'k8s.gcr.io'];

const extras: Readonly<Record<Extra, (root: string) => Promise<void>>> = {
  nginx: (root) => fillNginx(root, 80),
  'nginx-on-the-host': (root) => fillNginx(root, hostNetworkPort),
  escalation: fillEscalation,
};

/** The folder that holds the images, named by what they are made of. */
async function storeFolder(): Promise<string> {
  const hash = createHash('sha256');
  for (const name of ['images.ts', 'image-roots.ts', 'mirror.ts', '../harness/oci-layout.ts'])
    hash.update(await readFile(join(import.meta.dirname, name)));
  for (const program of await imageInputs()) hash.update(program);
  return join(cache, `critest-images-${hash.digest('hex').slice(0, 12)}`);
}

async function fillStore(store: string): Promise<void> {
  await using registry = await TestRegistry.start({ store });
  const base = await layerOf(fillBusybox);
  const layers = new Map<Extra, Uint8Array>();
  for (const { names, extra, config } of testImages) {
    const own = [base];
    if (extra !== undefined) {
      const layer = layers.get(extra) ?? (await layerOf(extras[extra]));
      layers.set(extra, layer);
      own.push(layer);
    }
    const folder = await freeFolder('image');
    try {
      // A label of its own gives each image an id of its own.
      const Labels = { 'kelyfos.test/image': names[0] ?? '' };
      const image = await writeOciLayout(folder, own, { Env: ['PATH=/bin:/usr/sbin'], ...config, Labels });
      for (const name of names) await registry.push(image.folder, name);
    } finally {
      await removeFolder(folder);
    }
  }
}

/** A registry on loopback with the images that critest names; they are built once and kept in the cache. */
export class CritestMirror implements AsyncDisposable {
  readonly #registry: TestRegistry;

  private constructor(registry: TestRegistry) {
    this.#registry = registry;
  }

  static async start(): Promise<CritestMirror> {
    const store = await storeFolder();
    const present = await access(store).then(
      () => true,
      () => false,
    );
    if (!present) {
      const half = `${store}.new`;
      await rm(half, { recursive: true, force: true });
      await fillStore(half);
      await rename(half, store);
    }
    return new CritestMirror(await TestRegistry.start({ store }));
  }

  /** For registries.conf: the registries of critest's images are this one. */
  get registriesConf(): string {
    const { host } = this.#registry;
    return registries
      .map((name) => `[[registry]]\nprefix = "${name}"\nlocation = "${host}/${name}"\ninsecure = true\n`)
      .join('');
  }

  /** The same for containerd, as the content of each registry's hosts.toml. */
  get containerdHosts(): Readonly<Record<string, Readonly<Record<string, unknown>>>> {
    const { url } = this.#registry;
    const hostsOf = (name: string): Readonly<Record<string, unknown>> => {
      const server = `${url}/v2/${name}`;
      return { server, host: { [server]: { capabilities: ['pull', 'resolve'], override_path: true } } };
    };
    return Object.fromEntries(registries.map((name) => [name, hostsOf(name)]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#registry.close();
  }
}
