import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { abortError, AppError, hasCode } from '../platform/errors.ts';
import { isFile } from '../platform/file-kind.ts';
import { type ArchivedImage, readArchiveIndex } from './archive-index.ts';
import { archiveError } from './archive-error.ts';
import { hexOf } from './digest.ts';
import { compressionOf, openLayer } from './layer-content.ts';
import { parseManifest } from './manifest.ts';
import { canonicalName, parseReference } from './reference.ts';
import { bytesBelow, runSkopeo } from './skopeo-run.ts';
import type { BlobStore } from './blobs.ts';
import type { Fetching, Installer } from './installer.ts';
import type { Descriptor } from './manifest.ts';
import type { SkopeoOptions } from './skopeo-run.ts';

export interface ImporterParts {
  readonly blobs: BlobStore;
  readonly installer: Installer;
  readonly skopeo: SkopeoOptions;
  readonly stagingDir: string;
}

export interface ImportedImage {
  readonly id: string;
  readonly tags: readonly string[];
}

const archiveFile = 'archive';

/**
 * Brings the images of an archive, each as from a registry: judged by the policy, verified, made one file
 * system. They have no digest at any registry.
 */
export class Importer {
  readonly #parts: ImporterParts;

  constructor(parts: ImporterParts) {
    this.#parts = parts;
  }

  /** `name`: of the archive, for messages; `tag`: instead of the names that an archive of one image has for it. */
  async import(
    archive: AsyncIterable<Uint8Array>,
    name: string,
    tag: string | undefined,
    signal: AbortSignal,
  ): Promise<readonly ImportedImage[]> {
    const given = tag === undefined ? undefined : givenTag(tag);
    const staging = await mkdtemp(join(this.#parts.stagingDir, 'import-'));
    try {
      await spool(archive, join(staging, archiveFile), name, signal);
      const images = await readArchiveIndex(join(staging, archiveFile), name);
      if (given !== undefined && images.length > 1) {
        throw new AppError('invalid', `${name} has ${String(images.length)} images, which cannot all be ${given}`);
      }
      const imported: ImportedImage[] = [];
      for (const [index, image] of images.entries()) {
        const tags = given === undefined ? image.tags : [given];
        const work = `image-${String(index)}`;
        await mkdir(join(staging, work), { mode: 0o700 });
        const id = await this.#install(image, { name, tags, staging, work }, signal);
        imported.push({ id, tags });
        await rm(join(staging, work), { recursive: true });
      }
      return imported;
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  async #install(
    { transport, selector }: ArchivedImage,
    { name, tags, staging, work }: { name: string; tags: readonly string[]; staging: string; work: string },
    signal: AbortSignal,
  ): Promise<string> {
    const { installer, skopeo } = this.#parts;
    const folder = join(staging, work, 'dir');
    const source = `${transport}:${archiveFile}${selector === '' ? '' : `:${selector}`}`;
    const run = {
      name: `import ${name}`,
      // A folder takes everything as it is; a layout would compress layers, which changes their digests.
      argv: ['copy', '--preserve-digests', source, `dir:${work}/dir`],
      cwd: staging,
      progress: () => bytesBelow(staging),
    };
    const exit = await runSkopeo(skopeo, run, signal);
    if (exit.code !== 0) throw archiveError(`import ${name}`, exit);
    const manifest = parseManifest(await readFile(join(folder, 'manifest.json')), name);
    if (manifest.kind === 'list') throw new AppError('internal', `import ${name}: a list of manifests was copied`);
    const file = async ({ digest }: Descriptor): Promise<string> => {
      const path = join(folder, hexOf(digest));
      if (await isFile(path)) return path;
      throw new AppError('invalid', `${name} has no blob ${digest}, which is a part of its image`);
    };
    const fetching: Fetching = {
      copied: Promise.resolve(),
      layer: file,
      config: () => file(manifest.config),
      [Symbol.dispose]: () => undefined,
    };
    // The policy has been asked already.
    const image = { name, manifest, names: { tags, digests: [] }, reuse: true, fetch: () => Promise.resolve(fetching) };
    return await installer.install(image, join(staging, work), signal);
  }
}

function givenTag(text: string): string {
  const parsed = parseReference(text);
  if (parsed.kind === 'name' && parsed.digest === undefined) return canonicalName(parsed);
  throw new AppError('invalid', `image reference ${JSON.stringify(text)}: an archive can be given a tag only`);
}

/** Puts an archive into a file, without its compression: of that skopeo reads some kinds in some archives only. */
async function spool(
  archive: AsyncIterable<Uint8Array>,
  file: string,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const write = async (bytes: AsyncIterable<Uint8Array>, to: string): Promise<void> => {
    await pipeline(Readable.from(bytes, { objectMode: false }), createWriteStream(to, { mode: 0o600 }), { signal });
  };
  try {
    await write(archive, file);
    if ((await compressionOf(file)) === undefined) return;
    const compressed = `${file}.compressed`;
    await rename(file, compressed);
    await using content = await openLayer(compressed);
    await write(content.bytes, file);
    await unlink(compressed);
  } catch (error) {
    if (signal.aborted) throw abortError(signal, `import ${name}`);
    if (hasCode(error, 'ENOSPC', 'EDQUOT')) {
      throw new AppError('exhausted', `no space left: import ${name}`, { cause: error });
    }
    if (error instanceof AppError) throw new AppError('invalid', `import ${name}: ${error.message}`, { cause: error });
    throw error;
  }
}
