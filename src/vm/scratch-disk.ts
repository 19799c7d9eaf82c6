import { chmod, chown, open } from 'node:fs/promises';
import { execa } from 'execa';
import { AppError } from '../platform/errors.ts';

const mkfsTimeoutMs = 30_000;
/** Unit of allocation: few bitmaps to read and write, at the price of 64 KiB for the smallest file. */
const clusterBytes = 65_536;

/**
 * Makes the disk of a VM's writable layers: a sparse ext4 without journal (it dies with the VM; what
 * a host crash leaves is deleted, never mounted again), in clusters of 64 KiB. The guest may change
 * everything on it, so the host never mounts it.
 */
export async function createScratchDisk(path: string, bytes: number, uid: number): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.truncate(bytes);
  } finally {
    await file.close();
  }
  await chmod(path, 0o600);
  await chown(path, uid, uid);
  const result = await execa('mkfs.ext4', mkfsArguments(path, bytes), { reject: false, timeout: mkfsTimeoutMs });
  if (result.failed) {
    throw new AppError(
      'internal',
      `make scratch disk ${path}: ${result.stderr.slice(-4096) || String(result.shortMessage)}`,
      {
        cause: result,
      },
    );
  }
}

export function mkfsArguments(path: string, bytes: number): string[] {
  // As many as there are files to fill the disk with; mkfs takes no more than this on disks above 2 GiB.
  const inodes = Math.floor(bytes / clusterBytes);
  return [
    '-q',
    '-F',
    '-O',
    '^has_journal,^metadata_csum,^resize_inode,bigalloc',
    '-C',
    String(clusterBytes),
    '-E',
    'lazy_itable_init=0',
    '-m',
    '0',
    '-N',
    String(inodes),
    path,
  ];
}
