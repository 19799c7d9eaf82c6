import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../platform/errors.ts';
import { BlobArrivals } from './blob-arrivals.ts';
import { digestOf } from './digest.ts';
import { choosePlatform, isUncompressed, parseManifest } from './manifest.ts';
import { canonicalName, repositoryOf } from './reference.ts';
import { acceptsEverything } from './signature-policy.ts';
import { Skopeo } from './skopeo.ts';
import type { Log } from '../platform/log.ts';
import type { BlobStore } from './blobs.ts';
import type { ImageIndex } from './image-index.ts';
import type { Fetching, Installer } from './installer.ts';
import type { ImageManifest } from './manifest.ts';
import type { NamedReference } from './reference.ts';
import type { RegistryAuth } from './registry-auth.ts';
import type { SkopeoOptions } from './skopeo-run.ts';

export interface PullerParts {
  readonly blobs: BlobStore;
  readonly index: ImageIndex;
  readonly installer: Installer;
  readonly skopeo: SkopeoOptions;
  /** Folder for unfinished things, on the file system of the finished ones. */
  readonly stagingDir: string;
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
    const { index, installer, skopeo: options } = this.#parts;
    const name = canonicalName(reference);
    const topBytes = await skopeo.manifest(undefined, signal);
    const repoDigest = `${repositoryOf(reference)}@${digestOf(topBytes)}`;
    const names = { tags: tagsOf(reference), digests: [repoDigest] };
    // With a policy that may reject it every pull is judged anew, and skopeo does that as it copies.
    const reuse = options.policy === undefined || (await acceptsEverything(options.policy));
    const known = index.byName(repoDigest);
    if (known !== undefined && reuse && (await installer.rename(known.id, names))) return known.id;
    const { manifest, manifestDigest } = await this.#resolve(topBytes, name, skopeo, signal);
    const fetch = (until: AbortSignal): Promise<Fetching> =>
      this.#fetch({ manifest, manifestDigest }, skopeo, staging, until);
    return await installer.install({ name, names, manifest, reuse, fetch }, staging, signal);
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

  /** Copies what the store has not, once the policy has accepted the image. */
  async #fetch(
    { manifest, manifestDigest }: Pick<Resolved, 'manifest' | 'manifestDigest'>,
    skopeo: Skopeo,
    staging: string,
    signal: AbortSignal,
  ): Promise<Fetching> {
    const { blobs } = this.#parts;
    const { config, docker, layers } = manifest;
    // The OCI layout knows no other than gzip when a docker manifest is rewritten for it.
    const asIs = docker && layers.some(isUncompressed);
    const pool = join(staging, asIs ? 'dir' : 'blobs');
    await mkdir(pool, { mode: 0o700 });
    if (!asIs)
      await blobs.lend(
        [...layers, config].map(({ digest }) => digest),
        pool,
      );
    const arrivals = new BlobArrivals(asIs ? pool : join(pool, 'sha256'));
    const copied = asIs
      ? skopeo.copyToFolder(pool, signal)
      : skopeo.copyToLayout(join(staging, 'layout'), pool, docker, signal);
    arrivals.endWith(copied);
    return {
      copied,
      layer: async ({ digest }) => {
        const file = await arrivals.file(digest);
        if (file !== undefined) return file;
        await copied;
        throw new MovedError(digest);
      },
      config: async () => {
        await copied;
        const file = await arrivals.file(config.digest);
        if (file !== undefined) return file;
        if (!docker) throw new MovedError(config.digest);
        const original = join(staging, 'config');
        await writeFile(original, await skopeo.config(manifestDigest, signal));
        return original;
      },
      [Symbol.dispose]: () => {
        arrivals[Symbol.dispose]();
      },
    };
  }
}

function tagsOf(reference: NamedReference): readonly string[] {
  return reference.digest === undefined ? [canonicalName(reference)] : [];
}
