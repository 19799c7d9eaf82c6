import { randomBytes } from 'node:crypto';
import { open, readdir, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const unfinished = /\.[0-9a-f]{12}\.tmp$/;

/**
 * Replaces a file so that a reader, or the next start after a crash, sees the old or the new content
 * and never a part. `mode` is that of the new file (default 0600).
 */
export async function writeFileAtomic(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  const file = await open(temporary, 'wx', mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } catch (error) {
    await file.close();
    await unlink(temporary);
    throw error;
  }
  await file.close();
  await rename(temporary, path);
  const folder = await open(dirname(path), 'r');
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
