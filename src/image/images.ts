import { mkdir, readdir, rm, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { removeUnfinishedFiles } from '../platform/atomic-file.ts';
import { AppError, hasCode } from '../platform/errors.ts';
import { KeyedMutex } from '../platform/keyed-mutex.ts';
import { BlobStore } from './blobs.ts';
import { hexOf } from './digest.ts';
import { parseConfig } from './image-config.ts';
import { ImageIndex } from './image-index.ts';
import { Puller, imageKey } from './puller.ts';
import { canonicalName, idPrefix, parseReference } from './reference.ts';
import { memoryFolder } from './registry-auth.ts';
import type { Log } from '../platform/log.ts';
import type { ImageConfig, ParsedConfig } from './image-config.ts';
import type { ImageRecord } from './image-index.ts';
import type { RegistryAuth } from './registry-auth.ts';

export interface ImagesOptions {
  /** Everything of this store lies below it. */
  readonly folder: string;
  readonly skopeo: string;
  readonly mkfsErofs: string;
  readonly registriesConf?: string;
  /** Signature policy; undefined: accept everything. */
  readonly policy?: string;
  /** The size of every image file; images that unpack to more are refused. */
  readonly maxUnpackedBytes: number;
  /** A pull that gets nowhere for so long is given up. */
  readonly stallMs: number;
  /** Where credentials pass through; /dev/shm is taken instead when this is not on tmpfs. */
  readonly secretsDir: string;
  readonly log: Log;
}

export interface Image {
  readonly id: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
  readonly sizeBytes: bigint;
  readonly config: ImageConfig;
  readonly pinned: boolean;
  readonly spec: unknown;
}

export interface ImageFileSystem {
  readonly mountpoint: string;
  readonly usedBytes: bigint;
  readonly inodesUsed: bigint;
  readonly at: Date;
}

/** A converter that neither reads nor writes for so long will never end. */
const CONVERTER_STALL_MS = 20_000;

const BYTES_PER_BLOCK = 512n;

/**
 * The images of this node: pulled from registries, each one file system in one file, found by name,
 * digest or id. Below the folder: `blobs/sha256` as they came, `rootfs` as VMs get them, `staging`
 * what is not finished, `index.json` what there is.
 */
export class RegistryImages {
  readonly #folder: string;
  readonly #blobs: BlobStore;
  readonly #index: ImageIndex;
  readonly #locks = new KeyedMutex();
  readonly #puller: Puller;
  readonly #log: Log;
  /** Parsed configurations by image id. */
  readonly #configs = new Map<string, ParsedConfig>();

  private constructor(options: ImagesOptions) {
    this.#folder = options.folder;
    this.#log = options.log;
    this.#blobs = new BlobStore(join(options.folder, 'blobs'));
    this.#index = new ImageIndex(join(options.folder, 'index.json'));
    const { registriesConf, policy, skopeo, secretsDir, stallMs } = options;
    this.#puller = new Puller({
      blobs: this.#blobs,
      index: this.#index,
      locks: this.#locks,
      skopeo: {
        command: skopeo,
        ...(registriesConf === undefined ? {} : { registriesConf }),
        ...(policy === undefined ? {} : { policy }),
        ...{ secretsDir, stallMs },
        platform: { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch },
      },
      erofs: { mkfs: options.mkfsErofs, maxBytes: options.maxUnpackedBytes, stallMs: CONVERTER_STALL_MS },
      stagingDir: this.#stagingDir,
      rootfsPath: (id) => this.#rootfsPath(id),
      learn: (id, config) => this.#configs.set(id, config),
      log: options.log,
    });
  }

  /** Opens the store and clears away what an earlier daemon left unfinished. */
  static async open(options: ImagesOptions): Promise<RegistryImages> {
    const secretsDir = await memoryFolder([options.secretsDir, '/dev/shm']);
    if (secretsDir === undefined) {
      options.log.warn({ folder: options.secretsDir }, 'no tmpfs for registry credentials: they may reach the disk');
    }
    const images = new RegistryImages({ ...options, secretsDir: secretsDir ?? options.secretsDir });
    await images.#open();
    if (options.policy === undefined) options.log.info('no signature policy for images: all are accepted');
    return images;
  }

  async #open(): Promise<void> {
    await rm(this.#stagingDir, { recursive: true, force: true });
    for (const folder of [this.#folder, this.#stagingDir, this.#rootfsDir]) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
    }
    await removeUnfinishedFiles(this.#folder);
    await this.#blobs.open();
    await this.#index.open();
    for (const { id } of this.#index.all()) {
      if (await this.#isWhole(id)) continue;
      this.#log.warn({ image: id }, 'files of the image are missing, it must be pulled again');
      await this.#index.delete(id);
    }
    const expected = new Set(this.#index.all().map(({ id }) => this.#rootfsPath(id)));
    for (const name of await readdir(this.#rootfsDir)) {
      const path = join(this.#rootfsDir, name);
      if (!expected.has(path)) await unlink(path);
    }
    await this.#collect();
  }

  async pull(reference: string, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<string> {
    const parsed = parseReference(reference);
    if (parsed.kind === 'id') {
      if (this.#index.get(parsed.id) !== undefined) return parsed.id;
      throw new AppError('not-found', `image ${parsed.id} is not here, and registries do not know ids`);
    }
    const started = performance.now();
    try {
      const id = await this.#puller.pull(parsed, auth, signal);
      this.#log.info({ image: canonicalName(parsed), id, ms: Math.round(performance.now() - started) }, 'image pulled');
      return id;
    } catch (error) {
      // Blobs that came before it failed are worth nothing without an image.
      await this.#collect();
      throw error;
    }
  }

  find(reference: string): Image | undefined {
    const record = this.#find(reference);
    return record === undefined ? undefined : this.#describe(record);
  }

  list(): readonly Image[] {
    return this.#index.all().flatMap((record) => this.#describe(record) ?? []);
  }

  async remove(reference: string): Promise<void> {
    const id = this.#find(reference)?.id;
    if (id === undefined) return;
    await this.#locks.run(imageKey(id), async () => {
      // The record first: what it named is rubbish from then on, whatever happens.
      await this.#index.delete(id);
      this.#configs.delete(id);
      await rm(this.#rootfsPath(id), { force: true });
    });
    await this.#collect();
    this.#log.info({ image: reference, id }, 'image removed');
  }

  async fsInfo(): Promise<ImageFileSystem> {
    let usedBytes = 0n;
    let inodesUsed = 0n;
    for (const entry of await readdir(this.#folder, { withFileTypes: true, recursive: true })) {
      try {
        const { blocks } = await stat(join(entry.parentPath, entry.name), { bigint: true });
        usedBytes += blocks * BYTES_PER_BLOCK;
        inodesUsed += 1n;
      } catch (error) {
        // Pulls and removals go on meanwhile.
        if (!hasCode(error, 'ENOENT')) throw error;
      }
    }
    return { mountpoint: this.#folder, usedBytes, inodesUsed, at: new Date() };
  }

  get mountpoint(): string {
    return this.#folder;
  }

  rootfs(id: string): string {
    if (this.#index.get(id) === undefined) throw new AppError('not-found', `image ${id} is not here`);
    return this.#rootfsPath(id);
  }

  get #stagingDir(): string {
    return join(this.#folder, 'staging');
  }

  get #rootfsDir(): string {
    return join(this.#folder, 'rootfs');
  }

  #rootfsPath(id: string): string {
    return join(this.#rootfsDir, `${hexOf(id)}.erofs`);
  }

  #find(reference: string): ImageRecord | undefined {
    const prefix = idPrefix(reference);
    const named = this.#findByName(reference);
    if (named !== undefined || prefix === undefined) return named;
    const matches = this.#index.all().filter(({ id }) => hexOf(id).startsWith(prefix));
    if (matches.length > 1) throw new AppError('invalid', `image id ${reference} is ambiguous`);
    return matches[0];
  }

  #findByName(reference: string): ImageRecord | undefined {
    const parsed = parseReference(reference);
    return parsed.kind === 'id' ? this.#index.get(parsed.id) : this.#index.byName(canonicalName(parsed));
  }

  #describe(record: ImageRecord): Image | undefined {
    const parsed = this.#configs.get(record.id);
    if (parsed === undefined) return undefined;
    return {
      id: record.id,
      repoTags: record.tags,
      repoDigests: record.digests,
      sizeBytes: record.size,
      config: parsed.config,
      pinned: false,
      spec: parsed.spec,
    };
  }

  /** Whether all that a VM needs of the image is there; remembers its configuration. */
  async #isWhole(id: string): Promise<boolean> {
    try {
      await stat(this.#rootfsPath(id));
      this.#configs.set(id, parseConfig(await this.#blobs.read(id), id));
      return true;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw error;
    }
  }

  async #collect(): Promise<void> {
    await this.#blobs.collect(new Set(this.#index.all().flatMap(({ id, layers }) => [id, ...layers])));
  }
}
