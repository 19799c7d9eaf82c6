import { createWriteStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { messageOf } from '../platform/errors.ts';
import { CommandError } from './fail.ts';

/** The name that stands for standard input or output. */
const dash = '-';
const chunkBytes = 64 * 1024;
const failed = 1;

export interface OpenArchive {
  /** What to call it in messages. */
  readonly name: string;
  readonly bytes: AsyncIterable<Uint8Array>;
}

/** A file that cannot be opened is told before the daemon is asked. */
export async function openArchive(path: string, stdin: AsyncIterable<Uint8Array>): Promise<OpenArchive> {
  if (path === dash) return { name: 'standard input', bytes: stdin };
  try {
    const handle = await open(path, 'r');
    if (!(await handle.stat()).isDirectory()) {
      return { name: basename(path), bytes: handle.createReadStream({ highWaterMark: chunkBytes }) };
    }
    await handle.close();
  } catch (error) {
    throw new CommandError(`cannot read the archive: ${messageOf(error)}`, failed, { cause: error });
  }
  throw new CommandError(`cannot read the archive: ${path} is a folder`, failed);
}

/** A file appears when it is whole, and replaces one of that name. */
export async function saveArchive(
  path: string,
  bytes: AsyncIterable<Uint8Array>,
  stdout: Writable & { readonly isTTY?: boolean },
): Promise<void> {
  if (path === dash) {
    if (stdout.isTTY === true) throw new CommandError('an archive is not for a terminal: name a file', failed);
    await pipeline(Readable.from(bytes, { objectMode: false }), stdout, { end: false });
    return;
  }
  const temporary = `${path}.${String(process.pid)}.partial`;
  try {
    await pipeline(Readable.from(bytes, { objectMode: false }), createWriteStream(temporary, { flags: 'wx' }));
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
