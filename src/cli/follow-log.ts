import { open, type FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { hasCode } from '../platform/errors.ts';
import { LogPieces } from './log-line.ts';

const pauseMs = 20;
const chunkBytes = 64 * 1024;

export interface Output {
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
}

async function openWhenThere(path: string, ended: () => boolean): Promise<FileHandle | undefined> {
  for (;;) {
    const last = ended();
    try {
      return await open(path, 'r');
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
      if (last) return undefined;
    }
    await delay(pauseMs);
  }
}

/** Writes and waits where the reader is slow, so that a fast container does not fill our memory. */
async function write(stream: NodeJS.WritableStream, content: Buffer): Promise<void> {
  if (stream.write(content)) return;
  const turn = Promise.withResolvers<undefined>();
  stream.once('drain', () => {
    turn.resolve(undefined);
  });
  await turn.promise;
}

/**
 * Copies a container's log to our own output as it grows, until `ended` was true before a read that
 * found nothing more: a runtime shows EXITED only once the last byte is in the file.
 */
export async function followLog(path: string, output: Output, ended: () => boolean): Promise<void> {
  const file = await openWhenThere(path, ended);
  if (file === undefined) return;
  try {
    const pieces = new LogPieces();
    const chunk = Buffer.alloc(chunkBytes);
    for (;;) {
      const last = ended();
      const { bytesRead } = await file.read(chunk, 0, chunk.length, null);
      for (const piece of pieces.push(chunk.subarray(0, bytesRead))) await write(output[piece.stream], piece.content);
      if (bytesRead > 0) continue;
      if (last) return;
      await delay(pauseMs);
    }
  } finally {
    await file.close();
  }
}
