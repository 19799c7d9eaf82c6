import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * A folder of one's own with a short path (sockets are made below it) that other users may pass
 * through, like /var/lib and /run: QEMU and mkfs.erofs do not run as root.
 */
export async function freeFolder(name: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), `kelyfos-${name}-`));
  await chmod(folder, 0o755);
  return folder;
}

export async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}
