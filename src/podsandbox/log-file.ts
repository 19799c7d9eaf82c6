import { mkdir, open, readdir, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasCode } from '../platform/errors.ts';

/** Which file, by inode, and how many bytes of it are ours and accounted for. */
export interface LogPosition {
  readonly inode: bigint;
  readonly size: number;
}

const folderMode = 0o755;
const fileMode = 0o640;

/** A container's log file, appended to, that others rename, delete and read as they like. */
export class LogFile {
  readonly #path: string;
  #file: FileHandle;
  #inode: bigint;
  #size: number;

  private constructor(path: string, file: FileHandle, inode: bigint, size: number) {
    this.#path = path;
    this.#file = file;
    this.#inode = inode;
    this.#size = size;
  }

  static async open(path: string): Promise<LogFile> {
    const { file, inode, size } = await openForAppend(path);
    return new LogFile(path, file, inode, size);
  }

  get position(): LogPosition {
    return { inode: this.#inode, size: this.#size };
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let written = 0; written < bytes.length;) {
      const { bytesWritten } = await this.#file.write(bytes, written);
      written += bytesWritten;
      this.#size += bytesWritten;
    }
  }

  /** Goes on in a new file at the same path, which exists when this returns. */
  async reopen(): Promise<void> {
    const fresh = await openForAppend(this.#path);
    const old = this.#file;
    this.#file = fresh.file;
    this.#inode = fresh.inode;
    this.#size = fresh.size;
    await old.close();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

async function openForAppend(path: string): Promise<{ file: FileHandle; inode: bigint; size: number }> {
  await mkdir(dirname(path), { recursive: true, mode: folderMode });
  const file = await open(path, 'a', fileMode);
  const { ino, size } = await file.stat({ bigint: true });
  return { file, inode: ino, size: Number(size) };
}

/**
 * How many bytes stand in the file behind a position that was recorded earlier: written by a daemon
 * that died before it could record them. The file may have been renamed since (log rotation), but
 * not out of its folder.
 */
export async function bytesBehind(path: string, position: LogPosition): Promise<number> {
  const folder = dirname(path);
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 0;
    throw error;
  }
  for (const name of names) {
    const found = await stat(join(folder, name), { bigint: true }).catch((error: unknown) => {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    });
    if (found?.ino === position.inode) return Math.max(0, Number(found.size) - position.size);
  }
  return 0;
}
