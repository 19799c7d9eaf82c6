import { readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { AppError, hasCode, wrap } from '../platform/errors.ts';

const manifest = z.looseObject({ key: z.string().min(1), kernelRelease: z.string(), agentVersion: z.string() });

/** Kernel and initramfs that every VM boots. */
export interface GuestImage {
  /** Folder with vmlinux and initramfs, links resolved: an update must not change it under a running VM. */
  readonly folder: string;
  /** Changes whenever kernel or initramfs do. */
  readonly key: string;
  readonly kernelRelease: string;
  readonly agentVersion: string;
}

export async function loadGuestImage(path: string): Promise<GuestImage> {
  let folder: string;
  let parsed: z.infer<typeof manifest>;
  try {
    folder = await realpath(path);
    parsed = manifest.parse(JSON.parse(await readFile(join(folder, 'guest.json'), 'utf8')));
    await Promise.all(['vmlinux', 'initramfs'].map((name) => stat(join(folder, name))));
  } catch (error) {
    if (hasCode(error, 'ENOENT'))
      throw new AppError('failed-precondition', `there is no guest image at ${path}`, { cause: error });
    throw wrap(error, `guest image ${path}`);
  }
  return { folder, key: parsed.key, kernelRelease: parsed.kernelRelease, agentVersion: parsed.agentVersion };
}
