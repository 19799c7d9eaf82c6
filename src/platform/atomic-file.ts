import { randomBytes } from 'node:crypto';
import { open, readdir, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const unfinished = /\.[0-9a-f]{12}\.tmp$/;

export interface AtomicWrite {
  /** False: only a crash of the daemon is survived, and not one of the host, after which the file may be damaged. */
  readonly durable?: boolean;
}

/**
 * Replaces a file, which is root's alone, so that a reader, or the next start after a crash, sees the old
 * or the new content and never a part.
 */
export async function writeFileAtomic(
  path: string,
  content: string | Uint8Array,
  { durable = true }: AtomicWrite = {},
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  const file = await open(temporary, 'wx', 0o600);
  try {
    await file.writeFile(content);
    if (durable) await file.sync();
  } catch (error) {
    await file.close();
    await unlink(temporary);
    throw error;
  }
  await file.close();
  await rename(temporary, path);
  if (durable) await syncFolder(dirname(path));
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Removes what a crash in the middle of `writeFileAtomic` left in a folder that nobody writes to at the moment. */
export async function removeUnfinishedFiles(folder: string): Promise<void> {
  for (const name of await readdir(folder)) if (unfinished.test(name)) await unlink(join(folder, name));
}
