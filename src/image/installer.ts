import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../platform/errors.ts';
import { together } from '../platform/together.ts';
import { buildErofs, publishErofs } from './erofs.ts';
import { parseConfig } from './image-config.ts';
import { withLocks } from './locks.ts';
import type { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { BlobStore } from './blobs.ts';
import type { ErofsOptions, NewErofs } from './erofs.ts';
import type { ParsedConfig } from './image-config.ts';
import type { ImageIndex } from './image-index.ts';
import type { Descriptor, ImageManifest, Platform } from './manifest.ts';

export interface InstallerParts {
  readonly blobs: BlobStore;
  readonly index: ImageIndex;
  /** Held per image and per blob; the key of an image is its id behind `image:`. */
  readonly locks: KeyedMutex;
  readonly erofs: ErofsOptions;
  readonly platform: Platform;
  readonly rootfsPath: (id: string) => string;
  /** Told of every image before its record is written. */
  readonly learn: (id: string, config: ParsedConfig) => void;
}

export interface ImageNames {
  readonly tags: readonly string[];
  readonly digests: readonly string[];
}

/** An image on its way into the store. */
export interface NewImage {
  /** For messages. */
  readonly name: string;
  readonly names: ImageNames;
  readonly manifest: ImageManifest;
  /** One that is here already only gets the names: nothing has to be asked of where it comes from. */
  readonly reuse: boolean;
  /** Begins to bring its blobs, until the signal fires. */
  fetch(signal: AbortSignal): Promise<Fetching>;
}

/** The blobs of an image on their way. */
export interface Fetching extends Disposable {
  /** Fulfilled when all have come. */
  readonly copied: Promise<void>;
  /** The file of a layer as soon as it is whole, which may be before all have come. */
  layer(layer: Descriptor): Promise<string>;
  config(): Promise<string>;
}

/** The last steps of every image: blobs → file system → record. The record comes last. */
export class Installer {
  readonly #parts: InstallerParts;

  constructor(parts: InstallerParts) {
    this.#parts = parts;
  }

  /** The id of the image. `staging` is the caller's, on the file system of the store. */
  async install(image: NewImage, staging: string, signal: AbortSignal): Promise<string> {
    const { blobs, erofs: options, index, locks, rootfsPath, learn } = this.#parts;
    const { name, manifest, names } = image;
    const id = manifest.config.digest;
    const layers = manifest.layers.map(({ digest }) => digest);
    using _pin = blobs.pin([id, ...layers]);
    return await withLocks(locks, [imageKey(id), id, ...layers], `get ${name}`, signal, async () => {
      // Another one may have brought it while this one waited for the locks.
      if (image.reuse && (await this.#rename(id, names))) return id;
      const { config, erofs } = await this.#bring(image, index.get(id)?.size, staging, signal);
      const isNew = typeof erofs !== 'bigint';
      if (isNew) await publishErofs(erofs, options.maxBytes, rootfsPath(id));
      learn(id, config);
      await index.put({ id, layers, size: isNew ? erofs.bytes : erofs, ...names });
      return id;
    });
  }

  /** Adds names to an image that is there; false when it is not. */
  async rename(id: string, names: ImageNames): Promise<boolean> {
    return await this.#parts.locks.run(imageKey(id), () => this.#rename(id, names));
  }

  async #rename(id: string, { tags, digests }: ImageNames): Promise<boolean> {
    const { index } = this.#parts;
    const image = index.get(id);
    if (image === undefined) return false;
    const isNew =
      !digests.every((digest) => image.digests.includes(digest)) || !tags.every((tag) => image.tags.includes(tag));
    if (isNew) await index.put({ ...image, tags, digests });
    return true;
  }

  /**
   * Its configuration, and a new file system, or the size of the one that is `there` already. All that the manifest
   * names is in the store then.
   */
  async #bring(
    image: NewImage,
    there: bigint | undefined,
    staging: string,
    signal: AbortSignal,
  ): Promise<{ readonly config: ParsedConfig; readonly erofs: NewErofs | bigint }> {
    const { name, manifest } = image;
    const stop = new AbortController();
    const until = AbortSignal.any([signal, stop.signal]);
    using fetching = await image.fetch(until);
    // Made of what has come while the rest still comes.
    const [, erofs] = await together<[unknown, NewErofs | bigint]>(stop, [
      fetching.copied,
      there === undefined ? this.#build(manifest, fetching, staging, until) : Promise.resolve(there),
    ]);
    const configFile = await fetching.config();
    const config = parseConfig(await readFile(configFile), name);
    checkPlatform(config.platform, this.#parts.platform, name);
    if (config.diffIds.length !== manifest.layers.length) {
      throw new AppError('failed-precondition', `corrupt image: ${name} has other layers than its configuration says`);
    }
    const isChecked = typeof erofs !== 'bigint';
    if (isChecked) checkContent(erofs.diffIds, config.diffIds, name);
    await this.#adopt(manifest, fetching, configFile, { isChecked }, signal);
    return { config, erofs };
  }

  async #build({ layers }: ImageManifest, fetching: Fetching, staging: string, signal: AbortSignal): Promise<NewErofs> {
    async function* files(): AsyncGenerator<string> {
      for (const layer of layers) yield await fetching.layer(layer);
    }
    return await buildErofs(this.#parts.erofs, files(), join(staging, 'erofs'), signal);
  }

  /** `isChecked`: the content of the layers has been. */
  async #adopt(
    { config, layers }: ImageManifest,
    fetching: Fetching,
    configFile: string,
    { isChecked }: { readonly isChecked: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    const { blobs } = this.#parts;
    const distinct = new Map(layers.map((layer) => [layer.digest, layer]));
    await Promise.all([
      blobs.adopt(configFile, config, { isChecked: false }, signal),
      ...[...distinct.values()].map(async (layer) => {
        await blobs.adopt(await fetching.layer(layer), layer, { isChecked }, signal);
      }),
    ]);
  }
}

/** The key of an image in the locks. */
export function imageKey(id: string): string {
  return `image:${id}`;
}

function checkContent(found: readonly string[], vouchedFor: readonly string[], name: string): void {
  for (const [index, digest] of found.entries()) {
    if (digest === vouchedFor[index]) continue;
    const layer = `layer ${String(index + 1)} of ${String(found.length)}`;
    throw new AppError(
      'failed-precondition',
      `corrupt image: ${layer} of ${name} is not what the configuration says: ${digest}`,
    );
  }
}

function checkPlatform(found: Platform, wanted: Platform, name: string): void {
  const matches = (a: string, b: string): boolean => a === '' || a === b;
  if (matches(found.os, wanted.os) && matches(found.architecture, wanted.architecture)) return;
  throw new AppError(
    'failed-precondition',
    `${name} is for ${found.os}/${found.architecture}, not for ${wanted.os}/${wanted.architecture}`,
  );
}
