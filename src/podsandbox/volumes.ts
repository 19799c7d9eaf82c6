import { lstat, mkdir, readdir, realpath, rmdir, stat, unlink, writeFile } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { AppError, hasCode, wrap } from '../platform/errors.ts';
import { unmountBelow } from '../platform/unmount.ts';
import type { ContainerId } from './ids.ts';
import type { ContainerMount } from './model.ts';
import type { VolumeBinder } from './ports.ts';

/** One volume, bound into the VM's share. */
export interface BoundVolume {
  readonly mount: ContainerMount;
  /** Path on the host of the bind's target, below the share. */
  readonly target: string;
  /** Path below the share, as the guest sees it behind its mount point. */
  readonly inShare: string;
}

/** Folder of a container's volumes below the share. */
export function volumeFolder(share: string, id: ContainerId): string {
  return join(share, id);
}

/**
 * Binds host folders and files below the VM's share, where the guest sees them at once through 9p.
 * A missing source is made a folder, as the peers do. After a failure call unbindVolumes.
 */
export async function bindVolumes(
  share: string,
  id: ContainerId,
  mounts: readonly ContainerMount[],
  binder: VolumeBinder,
): Promise<readonly BoundVolume[]> {
  const folder = volumeFolder(share, id);
  if (mounts.length === 0) return [];
  await mkdir(folder, { mode: 0o755 });
  const bound: BoundVolume[] = [];
  for (const [index, mount] of mounts.entries()) {
    if (mount.image !== undefined) continue;
    const source = await resolveSource(mount);
    const target = join(folder, String(index));
    if (source.isFolder) await mkdir(target);
    else await writeFile(target, '', { flag: 'wx' });
    await bind(binder, mount, source.path, target);
    bound.push({ mount, target, inShare: `${id}/${String(index)}` });
  }
  return bound;
}

/**
 * Takes a container's binds away again. What is already gone is fine. Asks the kernel what is mounted
 * instead of remembering it, and removes only empty folders and the files that were mount points:
 * it can never delete through a bind.
 */
export async function unbindVolumes(share: string, id: ContainerId): Promise<void> {
  const folder = volumeFolder(share, id);
  await unmountBelow(folder);
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    throw error;
  }
  for (const name of names) {
    const target = join(folder, name);
    await ((await lstat(target)).isDirectory() ? rmdir(target) : unlink(target));
  }
  await rmdir(folder);
}

async function resolveSource(mount: ContainerMount): Promise<{ readonly path: string; readonly isFolder: boolean }> {
  const where = `mount source "${mount.hostPath}" of ${mount.containerPath}`;
  if (mount.propagation === 'bidirectional') {
    throw new AppError(
      'failed-precondition',
      `${where} asks for bidirectional propagation: a mount made in a virtual machine cannot appear on the host`,
    );
  }
  if (!isAbsolute(mount.hostPath)) throw new AppError('invalid', `${where} is not an absolute path`);
  try {
    await mkdirMissing(mount.hostPath);
    const path = await realpath(mount.hostPath);
    const found = await stat(path);
    if (found.isDirectory()) return { path, isFolder: true };
    if (found.isFile()) return { path, isFolder: false };
    const kind = found.isSocket() ? 'a socket' : found.isFIFO() ? 'a fifo' : 'a device';
    throw new AppError('failed-precondition', `${where} is ${kind}, which cannot be shared with a virtual machine`);
  } catch (error) {
    throw error instanceof AppError ? error : wrap(error, where, 'failed-precondition');
  }
}

async function mkdirMissing(path: string): Promise<void> {
  try {
    await stat(path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    await mkdir(path, { mode: 0o755 }).catch((failure: unknown) => {
      // A dangling symlink: say so instead of making something up.
      throw new AppError('failed-precondition', `${path} cannot be made a folder`, { cause: failure });
    });
  }
}

async function bind(binder: VolumeBinder, mount: ContainerMount, source: string, target: string): Promise<void> {
  try {
    const propagation = mount.propagation === 'private' ? 'private' : 'slave';
    await binder.bind(source, target, { readonly: mount.readonly, propagation });
  } catch (error) {
    throw wrap(error, `mount source "${mount.hostPath}" of ${mount.containerPath}`);
  }
}
