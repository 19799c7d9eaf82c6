import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from './errors.ts';

export interface FolderUsage {
  readonly bytes: bigint;
  /** Every file once, however many names it has. */
  readonly inodes: ReadonlySet<bigint>;
}

const bytesPerBlock = 512n;

/** What a folder takes on its file system, without the files in `except`. One that is not there takes nothing. */
export async function folderUsage(folder: string, except: ReadonlySet<bigint> = new Set()): Promise<FolderUsage> {
  const inodes = new Set<bigint>();
  let bytes = 0n;
  for (const path of await pathsBelow(folder)) {
    try {
      const { ino, blocks } = await lstat(path, { bigint: true });
      if (except.has(ino) || inodes.has(ino)) continue;
      inodes.add(ino);
      bytes += blocks * bytesPerBlock;
    } catch (error) {
      // Things come and go meanwhile.
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  }
  return { bytes, inodes };
}

async function pathsBelow(folder: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true, recursive: true });
    return entries.map((entry) => join(entry.parentPath, entry.name));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}
