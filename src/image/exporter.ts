import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { archiveError } from './archive-error.ts';
import { digestOf, hexOf } from './digest.ts';
import { compressionOf } from './layer-content.ts';
import { bytesBelow, runSkopeo } from './skopeo-run.ts';
import type { BlobStore } from './blobs.ts';
import type { ImageRecord } from './image-index.ts';
import type { SkopeoOptions } from './skopeo-run.ts';

export type ArchiveFormat = 'oci' | 'docker';

export interface ExporterParts {
  readonly blobs: BlobStore;
  readonly skopeo: SkopeoOptions;
  readonly stagingDir: string;
}

const chunkBytes = 1 << 20;
const ociConfig = 'application/vnd.oci.image.config.v1+json';
const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
const ociLayer = 'application/vnd.oci.image.layer.v1.tar';

/**
 * Makes an archive of an image as it is in the store: the same configuration, so the same id, and the same
 * layers, which docker's form has uncompressed. The manifest is written anew.
 */
export class Exporter {
  readonly #parts: ExporterParts;

  constructor(parts: ExporterParts) {
    this.#parts = parts;
  }

  /** The bytes of the archive; `tag` is the image's name in it, if any. */
  async *export(
    image: ImageRecord,
    tag: string | undefined,
    format: ArchiveFormat,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { blobs, stagingDir } = this.#parts;
    const staging = await mkdtemp(join(stagingDir, 'export-'));
    try {
      const layout = join(staging, 'layout');
      await mkdir(layout, { mode: 0o700 });
      {
        // From here on the archive has links of its own: a removal does no harm.
        using _pin = blobs.pin([image.id, ...image.layers]);
        await this.#writeLayout(image, layout);
      }
      yield* createReadStream(await this.#pack(image, tag, format, staging, signal), {
        highWaterMark: chunkBytes,
        signal,
      }) as AsyncIterable<Buffer>;
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  async #writeLayout({ id, layers }: ImageRecord, layout: string): Promise<void> {
    const { blobs } = this.#parts;
    const pool = join(layout, 'blobs');
    await blobs.lend([id, ...layers], pool);
    const sizeOf = async (digest: string): Promise<number> => (await stat(join(pool, 'sha256', hexOf(digest)))).size;
    const describe = async (digest: string): Promise<object> => {
      const compression = await compressionOf(join(pool, 'sha256', hexOf(digest)));
      const mediaType = compression === undefined ? ociLayer : `${ociLayer}+${compression}`;
      return { mediaType, digest, size: await sizeOf(digest) };
    };
    const manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: ociManifest,
        config: { mediaType: ociConfig, digest: id, size: await sizeOf(id) },
        layers: await Promise.all(layers.map(describe)),
      }),
    );
    const digest = digestOf(manifest);
    await writeFile(join(pool, 'sha256', hexOf(digest)), manifest);
    await writeFile(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    const entry = { mediaType: ociManifest, digest, size: manifest.length };
    await writeFile(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  }

  async #pack(
    { id }: ImageRecord,
    tag: string | undefined,
    format: ArchiveFormat,
    staging: string,
    signal: AbortSignal,
  ): Promise<string> {
    const { skopeo } = this.#parts;
    const name = tag === undefined ? '' : `:${tag}`;
    const keep = format === 'oci' ? ['--preserve-digests'] : [];
    const run = {
      name: `export ${tag ?? id}`,
      argv: ['copy', '--quiet', ...keep, 'oci:layout', `${format}-archive:archive${name}`],
      cwd: staging,
      progress: () => bytesBelow(staging),
    };
    // What is in the store has been accepted when it came.
    const { policy: _, ...withoutPolicy } = skopeo;
    const exit = await runSkopeo(withoutPolicy, run, signal);
    if (exit.code !== 0) throw archiveError(run.name, exit);
    return join(staging, 'archive');
  }
}
