import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, hasCode } from '../platform/errors.ts';
import { runWatched } from '../platform/watched-process.ts';
import { authFileContent, openNamelessFile, secretsOf } from './registry-auth.ts';
import { canonicalName, repositoryOf } from './reference.ts';
import { registryError } from './registry-error.ts';
import type { FileHandle } from 'node:fs/promises';
import type { Platform } from './manifest.ts';
import type { NamedReference } from './reference.ts';
import type { RegistryAuth } from './registry-auth.ts';

export interface SkopeoOptions {
  readonly command: string;
  /** containers-registries.conf(5); undefined: the one of the host, if any. */
  readonly registriesConf?: string;
  /** containers-policy.json(5); undefined: every image is accepted. */
  readonly policy?: string;
  /** A folder on tmpfs for credentials. */
  readonly secretsDir: string;
  /** A pull that moves no byte for so long is given up. */
  readonly stallMs: number;
  readonly platform: Platform;
}

/** Registries bound manifests to 4 MiB; configurations are smaller still. */
const MAX_DOCUMENT_BYTES = 8 * 1024 * 1024;

/** Where the child finds the first file it inherits. */
const AUTH_FILE = '/proc/self/fd/3';

/** Talks to registries through skopeo. One object per pull: it holds the credentials of that pull. */
export class Skopeo {
  readonly #options: SkopeoOptions;
  readonly #reference: NamedReference;
  readonly #authFile: FileHandle;
  readonly #secrets: readonly string[];

  private constructor(
    options: SkopeoOptions,
    reference: NamedReference,
    authFile: FileHandle,
    secrets: readonly string[],
  ) {
    this.#options = options;
    this.#reference = reference;
    this.#authFile = authFile;
    this.#secrets = secrets;
  }

  static async open(
    options: SkopeoOptions,
    reference: NamedReference,
    auth: RegistryAuth | undefined,
  ): Promise<Skopeo> {
    const authFile = await openNamelessFile(options.secretsDir, authFileContent(reference, auth));
    return new Skopeo(options, reference, authFile, secretsOf(auth));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#authFile.close();
  }

  /** The manifest as the registry has it: that of the reference, or the one with this digest. */
  async manifest(digest: string | undefined, signal: AbortSignal): Promise<Uint8Array> {
    return await this.#run('read the manifest', ['inspect', '--raw', this.#source(digest)], signal);
  }

  /** The configuration of the image whose manifest has this digest, byte for byte. */
  async config(manifestDigest: string, signal: AbortSignal): Promise<Uint8Array> {
    const argv = ['inspect', '--config', '--raw', this.#source(manifestDigest)];
    return await this.#run('read the configuration', argv, signal);
  }

  /**
   * Copies the image into an OCI layout in `layout`, blobs into `blobs`; those that are there are
   * not fetched again. What the registry sent is left as it is unless `rewrite` is set: a docker
   * manifest has to be written anew for an OCI layout, its layers stay the same.
   */
  async copyToLayout(layout: string, blobs: string, rewrite: boolean, signal: AbortSignal): Promise<void> {
    const keep = rewrite ? [] : ['--preserve-digests'];
    const argv = ['copy', ...keep, '--dest-shared-blob-dir', blobs, this.#source(undefined), `oci:${layout}:image`];
    await this.#run('copy', argv, signal, async () => (await bytesBelow(layout)) + (await bytesBelow(blobs)));
  }

  /** Copies the image as it is, manifest and all, each blob into a file named by its hex digits. */
  async copyToFolder(folder: string, signal: AbortSignal): Promise<void> {
    const argv = ['copy', '--preserve-digests', this.#source(undefined), `dir:${folder}`];
    await this.#run('copy', argv, signal, () => bytesBelow(folder));
  }

  /** The name given by the caller is kept: signature policies look at its tag. */
  #source(digest: string | undefined): string {
    const name = digest === undefined ? canonicalName(this.#reference) : `${repositoryOf(this.#reference)}@${digest}`;
    return `docker://${name}`;
  }

  async #run(
    doing: string,
    argv: readonly string[],
    signal: AbortSignal,
    progress: () => Promise<number> = () => Promise.resolve(0),
  ): Promise<Uint8Array> {
    const { command, policy, registriesConf, platform, stallMs } = this.#options;
    const name = canonicalName(this.#reference);
    const [verb = '', ...rest] = argv;
    // A flag of the verb in both of skopeo's verbs; it must stand after it.
    const auth = ['--authfile', AUTH_FILE];
    const exit = await runWatched(
      {
        name: `pull ${name}: ${doing}`,
        argv: [
          command,
          ...(policy === undefined ? ['--insecure-policy'] : ['--policy', policy]),
          ...(registriesConf === undefined ? [] : ['--registries-conf', registriesConf]),
          ...['--override-os', platform.os, '--override-arch', platform.architecture],
          verb,
          ...auth,
          ...rest,
        ],
        env: environment(),
        inherit: [this.#authFile.fd],
        stallMs,
        progress,
        maxOutputBytes: MAX_DOCUMENT_BYTES,
      },
      signal,
    ).catch((error: unknown) => {
      if (error instanceof AppError && error.kind === 'deadline' && !signal.aborted) {
        throw new AppError('unavailable', `RegistryUnavailable: ${error.message}`, { cause: error });
      }
      throw error;
    });
    if (exit.code === 0) return exit.stdout;
    const stderr = exit.signal === undefined ? exit.stderr : `${exit.stderr} (ended by ${exit.signal})`;
    throw registryError(name, doing, stderr, this.#secrets);
  }
}

/** Proxies are the administrator's business; nothing else of the daemon's environment is skopeo's. */
function environment(): Record<string, string> {
  const kept = /^(?:PATH|HOME|(?:https?|no|all)_proxy|SSL_CERT_(?:FILE|DIR))$/i;
  const set = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return Object.fromEntries(set.filter(([name]) => kept.test(name)));
}

/** Bytes in the files of a folder and the folders in it; 0 while it is not there. */
async function bytesBelow(folder: string): Promise<number> {
  try {
    const entries = await readdir(folder, { withFileTypes: true, recursive: true });
    const sizes = entries.filter((e) => e.isFile()).map((e) => sizeOf(join(e.parentPath, e.name)));
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 0;
    throw error;
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 0;
    throw error;
  }
}
