import { lstat, mkdir, readdir, realpath, rmdir, stat, unlink, writeFile } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { AppError, hasCode, wrap } from '../platform/errors.ts';
import { mountsBelow } from '../platform/mount-table.ts';
import type { ContainerId } from './ids.ts';
import type { ContainerMount } from './model.ts';
import type { Vm, VolumeBinder, VolumeBinding } from './ports.ts';

/** One volume, bound into the VM's share. */
export interface BoundVolume {
  readonly mount: ContainerMount;
  /** Path below the share, as the guest sees it behind its mount point. */
  readonly inShare: string;
  /**
   * Whether all of it can only be read. The guest has one mount of it, whatever is mounted below it on the host:
   * where something below may be writable, that one must be, and the host's own mounts refuse what they must.
   */
  readonly readonly: boolean;
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
  vm: Pick<Vm, 'share' | 'pid'>,
  id: ContainerId,
  mounts: readonly ContainerMount[],
  binder: VolumeBinder,
): Promise<readonly BoundVolume[]> {
  const folder = volumeFolder(vm.share, id);
  if (mounts.length === 0) return [];
  await mkdir(folder, { mode: 0o755 });
  const bound: BoundVolume[] = [];
  for (const [index, mount] of mounts.entries()) {
    if (mount.image !== undefined) continue;
    const source = await resolveSource(mount);
    const target = join(folder, String(index));
    if (source.isFolder) await mkdir(target);
    else await writeFile(target, '', { flag: 'wx' });
    const binding = bindingOf(mount, source.path, `${id}/${String(index)}`);
    await bind(binder, vm, mount, binding);
    bound.push({ mount, inShare: binding.inShare, readonly: await canOnlyBeRead(binding) });
  }
  return bound;
}

function bindingOf(mount: ContainerMount, source: string, inShare: string): VolumeBinding {
  return {
    source,
    inShare,
    readonly: mount.recursiveReadonly ? 'all' : mount.readonly ? 'top' : 'no',
    propagation: mount.propagation === 'private' ? 'private' : 'slave',
    ...(mount.owners === undefined ? {} : { owners: mount.owners }),
  };
}

async function canOnlyBeRead({ source, readonly, propagation }: VolumeBinding): Promise<boolean> {
  if (readonly !== 'top') return readonly === 'all';
  return propagation === 'private' && (await mountsBelow(source)).every((point) => point === source);
}

/**
 * Takes a container's binds away again: a mount in another namespace, and on the host there is none, goes with its mount
 * point (umount2(2), MNT_DETACH, does the same). What is already gone is fine. Removes only empty
 * folders and files, so it can never delete through a bind.
 */
export async function unbindVolumes(share: string, id: ContainerId): Promise<void> {
  const folder = volumeFolder(share, id);
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

async function bind(
  binder: VolumeBinder,
  vm: Pick<Vm, 'pid'>,
  mount: ContainerMount,
  binding: VolumeBinding,
): Promise<void> {
  try {
    await binder.bind(vm, binding);
  } catch (error) {
    throw wrap(error, `mount source "${mount.hostPath}" of ${mount.containerPath}`);
  }
}
