import { join } from 'node:path';
import { AppError } from '../platform/errors.ts';
import { buildErofs } from './erofs.ts';
import { parseConfig } from './image-config.ts';
import { withLocks } from './locks.ts';
import type { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { BlobStore } from './blobs.ts';
import type { ErofsOptions } from './erofs.ts';
import type { ParsedConfig } from './image-config.ts';
import type { ImageIndex } from './image-index.ts';
import type { ImageManifest, Platform } from './manifest.ts';

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
  /** Sees to it that all its blobs are in the store. */
  fetch(): Promise<void>;
}

/** The last steps of every image: blobs → file system → record. The record comes last. */
export class Installer {
  readonly #parts: InstallerParts;

  constructor(parts: InstallerParts) {
    this.#parts = parts;
  }

  /** The id of the image. `staging` is the caller's, on the file system of the store. */
  async install(image: NewImage, staging: string, signal: AbortSignal): Promise<string> {
    const { blobs, index, locks, platform, learn } = this.#parts;
    const { name, manifest, names } = image;
    const id = manifest.config.digest;
    const layers = manifest.layers.map(({ digest }) => digest);
    using _pin = blobs.pin([id, ...layers]);
    return await withLocks(locks, [imageKey(id), id, ...layers], `get ${name}`, signal, async () => {
      // Another one may have brought it while this one waited for the locks.
      if (image.reuse && (await this.#rename(id, names))) return id;
      await image.fetch();
      const config = parseConfig(await blobs.read(id), name);
      checkPlatform(config.platform, platform, name);
      if (config.diffIds.length !== layers.length) {
        throw new AppError(
          'failed-precondition',
          `corrupt image: ${name} has other layers than its configuration says`,
        );
      }
      const size = index.get(id)?.size ?? (await this.#build(id, layers, config.diffIds, staging, signal));
      learn(id, config);
      await index.put({ id, layers, size, ...names });
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

  async #build(
    id: string,
    digests: readonly string[],
    diffIds: readonly string[],
    staging: string,
    signal: AbortSignal,
  ): Promise<bigint> {
    const { blobs, erofs, rootfsPath } = this.#parts;
    const layers = digests.map((digest, i) => ({ path: blobs.path(digest), diffId: diffIds[i] ?? '' }));
    return await buildErofs(erofs, layers, join(staging, 'erofs'), rootfsPath(id), signal);
  }
}

/** The key of an image in the locks. */
export function imageKey(id: string): string {
  return `image:${id}`;
}

function checkPlatform(found: Platform, wanted: Platform, name: string): void {
  const matches = (a: string, b: string): boolean => a === '' || a === b;
  if (matches(found.os, wanted.os) && matches(found.architecture, wanted.architecture)) return;
  throw new AppError(
    'failed-precondition',
    `${name} is for ${found.os}/${found.architecture}, not for ${wanted.os}/${wanted.architecture}`,
  );
}
