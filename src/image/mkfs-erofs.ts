import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '../platform/errors.ts';

/**
 * Path of mkfs.erofs: the configured one, else the one that scripts/build-erofs-utils left in this
 * checkout's libexec, else one on the PATH.
 */
export async function findMkfsErofs(configured: string | undefined): Promise<string> {
  const built = fileURLToPath(new URL('../../libexec/mkfs.erofs', import.meta.url));
  const onPath = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, 'mkfs.erofs'));
  const candidates = configured === undefined ? [built, ...onPath] : [configured];
  for (const candidate of candidates) {
    if (await isExecutable(candidate)) return candidate;
  }
  const hint =
    configured === undefined ? 'run scripts/build-erofs-utils or set images.mkfs_erofs' : 'check images.mkfs_erofs';
  throw new AppError('failed-precondition', `mkfs.erofs not found at ${candidates.slice(0, 2).join(' or ')}: ${hint}`);
}

async function isExecutable(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
