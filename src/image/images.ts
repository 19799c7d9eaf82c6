import { mkdir, readdir, rm, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { removeUnfinishedFiles } from '../platform/atomic-file.ts';
import { AppError, hasCode } from '../platform/errors.ts';
import { folderUsage, type FolderUsage } from '../platform/folder-usage.ts';
import { KeyedMutex } from '../platform/keyed-mutex.ts';
import { BlobStore } from './blobs.ts';
import { hexOf } from './digest.ts';
import { type ArchiveFormat, Exporter } from './exporter.ts';
import { parseConfig } from './image-config.ts';
import { ImageIndex } from './image-index.ts';
import { type ImportedImage, Importer } from './importer.ts';
import { Installer, imageKey } from './installer.ts';
import { PinnedNames } from './pinned-names.ts';
import { Puller } from './puller.ts';
import { canonicalName, idPrefix, parseReference } from './reference.ts';
import { memoryFolder } from './registry-auth.ts';
import type { Log } from '../platform/log.ts';
import type { ImageConfig, ParsedConfig } from './image-config.ts';
import type { ImageRecord } from './image-index.ts';
import type { RegistryAuth } from './registry-auth.ts';
import type { SkopeoOptions } from './skopeo-run.ts';

export interface ImagesOptions {
  /** Everything of this store lies below it. */
  readonly folder: string;
  readonly skopeo: string;
  readonly mkfsErofs: string;
  readonly unpacker: string;
  readonly registriesConf?: string;
  /** Folder that says where signatures are. */
  readonly registriesD?: string;
  /** Signature policy; undefined: accept everything. */
  readonly policy?: string;
  /** Names of images that garbage collection has to leave alone, with `*` for any text. */
  readonly pinned: readonly string[];
  /** The folder beside this one with the disks of VMs: they hold the writable layers. */
  readonly disksFolder: string;
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

export interface FileSystemUsage {
  readonly usedBytes: bigint;
  readonly inodesUsed: bigint;
}

export interface ImageFileSystem {
  readonly mountpoint: string;
  readonly images: FileSystemUsage;
  readonly containers: FileSystemUsage;
  readonly at: Date;
}

/** A converter that neither reads nor writes for so long will never end. */
const CONVERTER_STALL_MS = 20_000;

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
  readonly #importer: Importer;
  readonly #exporter: Exporter;
  readonly #pinned: PinnedNames;
  readonly #disksFolder: string;
  readonly #log: Log;
  /** Parsed configurations by image id. */
  readonly #configs = new Map<string, ParsedConfig>();

  private constructor(options: ImagesOptions) {
    this.#folder = options.folder;
    this.#disksFolder = options.disksFolder;
    this.#pinned = new PinnedNames(options.pinned);
    this.#log = options.log;
    this.#blobs = new BlobStore(join(options.folder, 'blobs'));
    this.#index = new ImageIndex(join(options.folder, 'index.json'));
    const skopeo = skopeoOptions(options);
    const installer = new Installer({
      blobs: this.#blobs,
      index: this.#index,
      locks: this.#locks,
      erofs: {
        ...{ unpacker: options.unpacker, mkfs: options.mkfsErofs },
        ...{ maxBytes: options.maxUnpackedBytes, stallMs: CONVERTER_STALL_MS },
      },
      platform: skopeo.platform,
      rootfsPath: (id) => this.#rootfsPath(id),
      learn: (id, config) => this.#configs.set(id, config),
    });
    this.#puller = new Puller({
      blobs: this.#blobs,
      index: this.#index,
      installer,
      skopeo,
      stagingDir: this.#stagingDir,
      log: options.log,
    });
    const parts = { blobs: this.#blobs, skopeo, stagingDir: this.#stagingDir };
    this.#importer = new Importer({ ...parts, installer });
    this.#exporter = new Exporter(parts);
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

  /** The images of an archive of docker or OCI. `name`: of the archive, for messages. */
  async import(
    archive: AsyncIterable<Uint8Array>,
    name: string,
    tag: string | undefined,
    signal: AbortSignal,
  ): Promise<readonly ImportedImage[]> {
    try {
      const imported = await this.#importer.import(archive, name, tag, signal);
      this.#log.info({ archive: name, images: imported }, 'images imported');
      return imported;
    } catch (error) {
      await this.#collect();
      throw error;
    }
  }

  /** An archive of one image, which is called in it as it was asked for, if that was a tag. */
  export(reference: string, format: ArchiveFormat, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const image = this.#find(reference);
    if (image === undefined) throw new AppError('not-found', `image ${reference} is not here`);
    const tag = image.tags.find((it) => it === nameOf(reference));
    return this.#exporter.export(image, tag, format, signal);
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

  /** A disk of a VM may be the last name of an image that was removed; then it is the container's. */
  async fsInfo(): Promise<ImageFileSystem> {
    const images = await folderUsage(this.#folder);
    const containers = await folderUsage(this.#disksFolder, images.inodes);
    const shape = ({ bytes, inodes }: FolderUsage): FileSystemUsage => ({
      usedBytes: bytes,
      inodesUsed: BigInt(inodes.size),
    });
    return { mountpoint: this.#folder, images: shape(images), containers: shape(containers), at: new Date() };
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
      pinned: this.#pinned.has([record.id, ...record.tags, ...record.digests]),
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

/** In full; undefined for what is none. */
function nameOf(reference: string): string | undefined {
  const parsed = parseReference(reference);
  return parsed.kind === 'name' ? canonicalName(parsed) : undefined;
}

function skopeoOptions({
  registriesConf,
  registriesD,
  policy,
  skopeo,
  secretsDir,
  stallMs,
}: ImagesOptions): SkopeoOptions {
  return {
    command: skopeo,
    ...(registriesConf === undefined ? {} : { registriesConf }),
    ...(registriesD === undefined ? {} : { registriesD }),
    ...(policy === undefined ? {} : { policy }),
    ...{ secretsDir, stallMs },
    platform: { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch },
  };
}
