import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { AppError, messageOf } from '../platform/errors.ts';
import type { Transform } from 'node:stream';

export interface LayerContent extends AsyncDisposable {
  /** The uncompressed archive. */
  readonly bytes: AsyncIterable<Buffer>;
  /** sha256:<hex> of all that was read of it. */
  digest(): string;
}

const GZIP_MAGIC = 0x8b1f;
const ZSTD_MAGIC = 0xfd2fb528;
const CHUNK_BYTES = 256 * 1024;

/** Opens a layer for reading. Media types are not trusted to tell the compression, the first bytes are. */
export async function openLayer(path: string): Promise<LayerContent> {
  const decompress = decompressorOf(await compressionOf(path));
  const file = createReadStream(path, { highWaterMark: CHUNK_BYTES });
  const plain = decompress === undefined ? file : pipeline(file, decompress, () => undefined);
  const hash = createHash('sha256');
  async function* read(): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of plain as AsyncIterable<Buffer>) {
        hash.update(chunk);
        yield chunk;
      }
    } catch (error) {
      throw new AppError('failed-precondition', `corrupt image: it cannot be decompressed: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
  return {
    bytes: read(),
    digest: () => `sha256:${hash.digest('hex')}`,
    [Symbol.asyncDispose]: () => {
      file.destroy();
      plain.destroy();
      return Promise.resolve();
    },
  };
}

/** Undefined for what is not compressed. */
export async function compressionOf(path: string): Promise<'gzip' | 'zstd' | undefined> {
  const head = await firstBytes(path);
  if (head.readUInt16LE(0) === GZIP_MAGIC) return 'gzip';
  return head.readUInt32LE(0) === ZSTD_MAGIC ? 'zstd' : undefined;
}

function decompressorOf(compression: 'gzip' | 'zstd' | undefined): Transform | undefined {
  if (compression === 'gzip') return createGunzip({ chunkSize: CHUNK_BYTES });
  return compression === 'zstd' ? createZstdDecompress({ chunkSize: CHUNK_BYTES }) : undefined;
}

/** Four of them, zero where the file is shorter. */
async function firstBytes(path: string): Promise<Buffer> {
  const head = Buffer.alloc(4);
  const file = await open(path, 'r');
  try {
    await file.read(head, 0, head.length, 0);
  } finally {
    await file.close();
  }
  return head;
}
