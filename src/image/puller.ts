import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../platform/errors.ts';
import { digestOf, hexOf } from './digest.ts';
import { buildErofs } from './erofs.ts';
import { parseConfig } from './image-config.ts';
import { withLocks } from './locks.ts';
import { choosePlatform, isUncompressed, parseManifest } from './manifest.ts';
import { canonicalName, repositoryOf } from './reference.ts';
import { Skopeo } from './skopeo.ts';
import type { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { Log } from '../platform/log.ts';
import type { BlobStore } from './blobs.ts';
import type { ErofsOptions } from './erofs.ts';
import type { ParsedConfig } from './image-config.ts';
import type { ImageIndex } from './image-index.ts';
import type { ImageManifest, Platform } from './manifest.ts';
import type { NamedReference } from './reference.ts';
import type { RegistryAuth } from './registry-auth.ts';
import type { SkopeoOptions } from './skopeo.ts';

export interface PullerParts {
  readonly blobs: BlobStore;
  readonly index: ImageIndex;
  /** Held per image and per blob; the key of an image is its id behind `image:`. */
  readonly locks: KeyedMutex;
  readonly skopeo: SkopeoOptions;
  readonly erofs: ErofsOptions;
  /** Folder for unfinished things, on the file system of the finished ones. */
  readonly stagingDir: string;
  readonly rootfsPath: (id: string) => string;
  /** Told of every image before its record is written. */
  readonly learn: (id: string, config: ParsedConfig) => void;
  readonly log: Log;
}

/** What a reference stands for at the registry just now. */
interface Resolved {
  /** Of the manifest or list that the reference names. */
  readonly digest: string;
  /** Of the manifest for this platform. */
  readonly manifestDigest: string;
  readonly manifest: ImageManifest;
}

/** Thrown within a pull when the tag was moved in the middle of it. */
class MovedError extends Error {
  override readonly name = 'MovedError';
}

/**
 * Brings one image from a registry: manifest → blobs → file system → record. Everything happens in
 * a staging folder that goes with the pull; the record comes last, so a pull that ends half-way
 * leaves nothing to be seen.
 */
export class Puller {
  readonly #parts: PullerParts;

  constructor(parts: PullerParts) {
    this.#parts = parts;
  }

  /** The id of the image. */
  async pull(reference: NamedReference, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<string> {
    const { skopeo: options, stagingDir, log } = this.#parts;
    const name = canonicalName(reference);
    await using skopeo = await Skopeo.open(options, reference, auth);
    for (let attempt = 1; ; attempt += 1) {
      const staging = await mkdtemp(join(stagingDir, 'pull-'));
      try {
        return await this.#attempt(reference, skopeo, staging, signal);
      } catch (error) {
        if (!(error instanceof MovedError)) throw error;
        if (attempt === 3)
          throw new AppError('unavailable', `pull ${name}: it keeps changing at the registry`, { cause: error });
        log.debug({ image: name }, 'the image changed while it was pulled, trying again');
      } finally {
        await rm(staging, { recursive: true, force: true });
      }
    }
  }

  async #attempt(reference: NamedReference, skopeo: Skopeo, staging: string, signal: AbortSignal): Promise<string> {
    const { blobs, index, locks, skopeo: options } = this.#parts;
    const name = canonicalName(reference);
    const topBytes = await skopeo.manifest(undefined, signal);
    const repoDigest = `${repositoryOf(reference)}@${digestOf(topBytes)}`;
    const known = index.byName(repoDigest);
    // With a policy every pull is judged by it anew, and skopeo does that as it copies.
    if (known !== undefined && options.policy === undefined) {
      const renamed = await locks.run(imageKey(known.id), () => this.#rename(known.id, reference, repoDigest));
      if (renamed) return known.id;
    }
    const { manifest, manifestDigest } = await this.#resolve(topBytes, name, skopeo, signal);
    const id = manifest.config.digest;
    const digests = [id, ...manifest.layers.map((layer) => layer.digest)];
    using _pin = blobs.pin(digests);
    return await withLocks(locks, [imageKey(id), ...digests], `pull ${name}`, signal, async () => {
      // The pull before may have brought it while this one waited for the locks.
      if (options.policy === undefined && (await this.#rename(id, reference, repoDigest))) return id;
      await this.#fetch(manifest, manifestDigest, skopeo, staging, signal);
      const config = parseConfig(await blobs.read(id), name);
      checkPlatform(config.platform, options.platform, name);
      if (config.diffIds.length !== manifest.layers.length) {
        throw new AppError(
          'failed-precondition',
          `corrupt image: ${name} has other layers than its configuration says`,
        );
      }
      const layers = manifest.layers.map((layer) => layer.digest);
      const size = index.get(id)?.size ?? (await this.#build(id, layers, config.diffIds, staging, signal));
      this.#parts.learn(id, config);
      await index.put({ id, layers, size, tags: tagsOf(reference), digests: [repoDigest] });
      return id;
    });
  }

  /** Adds the names to an image that is there; false when it has been removed meanwhile. */
  async #rename(id: string, reference: NamedReference, repoDigest: string): Promise<boolean> {
    const { index } = this.#parts;
    const image = index.get(id);
    if (image === undefined) return false;
    const tags = tagsOf(reference);
    const isNew = !image.digests.includes(repoDigest) || !tags.every((tag) => image.tags.includes(tag));
    if (isNew) await index.put({ ...image, tags, digests: [repoDigest] });
    return true;
  }

  async #resolve(topBytes: Uint8Array, name: string, skopeo: Skopeo, signal: AbortSignal): Promise<Resolved> {
    const digest = digestOf(topBytes);
    const top = parseManifest(topBytes, name);
    if (top.kind === 'image') return { digest, manifestDigest: digest, manifest: top };
    const entry = choosePlatform(top, this.#parts.skopeo.platform, name);
    const bytes = await skopeo.manifest(entry.digest, signal);
    if (digestOf(bytes) !== entry.digest) {
      throw new AppError(
        'failed-precondition',
        `corrupt image: manifest ${entry.digest} of ${name} came as ${digestOf(bytes)}`,
      );
    }
    const manifest = parseManifest(bytes, name);
    if (manifest.kind === 'list')
      throw new AppError('failed-precondition', `${name}: a list of lists of manifests is not supported`);
    return { digest, manifestDigest: entry.digest, manifest };
  }

  /** Sees to it that all blobs of the image are in the store, and that the policy accepts it. */
  async #fetch(
    manifest: ImageManifest,
    manifestDigest: string,
    skopeo: Skopeo,
    staging: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { blobs } = this.#parts;
    const pool = join(staging, 'blobs');
    const layers = manifest.layers.map((layer) => layer.digest);
    // The OCI layout knows no other than gzip when a docker manifest is rewritten for it.
    const asIs = manifest.docker && manifest.layers.some(isUncompressed);
    let found: (digest: string) => string;
    if (asIs) {
      const folder = join(staging, 'dir');
      await skopeo.copyToFolder(folder, signal);
      found = (digest) => join(folder, hexOf(digest));
    } else {
      await mkdir(pool, { mode: 0o700 });
      await blobs.lend([...layers, manifest.config.digest], pool);
      await skopeo.copyToLayout(join(staging, 'layout'), pool, manifest.docker, signal);
      found = (digest) => join(pool, 'sha256', hexOf(digest));
    }
    for (const layer of manifest.layers) {
      if (!(await blobs.adopt(found(layer.digest), layer, signal))) throw new MovedError(layer.digest);
    }
    const config = manifest.config.digest;
    if (await blobs.adopt(found(config), manifest.config, signal)) return;
    if (!manifest.docker) throw new MovedError(config);
    await blobs.write(config, await skopeo.config(manifestDigest, signal), staging);
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

function tagsOf(reference: NamedReference): readonly string[] {
  return reference.digest === undefined ? [canonicalName(reference)] : [];
}

function checkPlatform(found: Platform, wanted: Platform, name: string): void {
  const matches = (a: string, b: string): boolean => a === '' || a === b;
  if (matches(found.os, wanted.os) && matches(found.architecture, wanted.architecture)) return;
  throw new AppError(
    'failed-precondition',
    `${name} is for ${found.os}/${found.architecture}, not for ${wanted.os}/${wanted.architecture}`,
  );
}
