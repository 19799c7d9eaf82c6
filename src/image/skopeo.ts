import { AppError } from '../platform/errors.ts';
import { authFileContent, openNamelessFile, secretsOf } from './registry-auth.ts';
import { canonicalName, repositoryOf } from './reference.ts';
import { registryError } from './registry-error.ts';
import { bytesBelow, runSkopeo } from './skopeo-run.ts';
import type { FileHandle } from 'node:fs/promises';
import type { NamedReference } from './reference.ts';
import type { RegistryAuth } from './registry-auth.ts';
import type { SkopeoOptions } from './skopeo-run.ts';

/** Where the child finds the first file it inherits. */
const authFile = '/proc/self/fd/3';

/** Signatures have been judged when the copy begins; a layout has no place for them, and skopeo fails over that. */
const unsigned = ['--remove-signatures'];

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
    const argv = [
      'copy',
      ...unsigned,
      ...keep,
      '--dest-shared-blob-dir',
      blobs,
      this.#source(undefined),
      `oci:${layout}:image`,
    ];
    await this.#run('copy', argv, signal, async () => (await bytesBelow(layout)) + (await bytesBelow(blobs)));
  }

  /** Copies the image as it is, manifest and all, each blob into a file named by its hex digits. */
  async copyToFolder(folder: string, signal: AbortSignal): Promise<void> {
    const argv = ['copy', ...unsigned, '--preserve-digests', this.#source(undefined), `dir:${folder}`];
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
    const name = canonicalName(this.#reference);
    const [verb = '', ...rest] = argv;
    const exit = await runSkopeo(
      this.#options,
      {
        name: `pull ${name}: ${doing}`,
        // A flag of the verb in both of skopeo's verbs; it must stand after it.
        argv: [verb, '--authfile', authFile, ...rest],
        inherit: [this.#authFile.fd],
        progress,
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
