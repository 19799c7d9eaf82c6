import { AppError } from '../platform/errors.ts';
import type { GuestDevice } from './devices.ts';
import type { ContainerConfig } from './model.ts';
import type { Images, Vm } from './ports.ts';
import type { AttachedDisk, ContainerRecord } from './records.ts';
import type { ContainerEntry, SandboxEntry } from './registry.ts';

/** What a disk of a guest holds. Equal keys mean the same disk, which the containers of a pod share. */
export function imageKey(imageId: string): string {
  return `image ${imageId}`;
}

/** A device that is wanted read-only by one container and writable by another is two disks. */
export function blockKey({ device, writable }: Pick<GuestDevice & { kind: 'block' }, 'device' | 'writable'>): string {
  return `block ${device} ${writable ? 'rw' : 'ro'}`;
}

interface Wanted {
  readonly key: string;
  readonly attach: () => Promise<string>;
}

/** The disks that a container needs: its image first, then the images that are volumes, then block devices. */
function wanted(
  vm: Vm,
  images: Images,
  imageId: string,
  config: ContainerConfig,
  devices: readonly GuestDevice[],
  signal: AbortSignal,
): readonly Wanted[] {
  const ids = [imageId, ...config.mounts.flatMap(({ image }) => (image === undefined ? [] : [image.id]))];
  const all = new Map<string, Wanted>();
  for (const id of ids) {
    all.set(imageKey(id), { key: imageKey(id), attach: () => vm.attachDisk(images.rootfs(id), signal) });
  }
  for (const device of devices) {
    if (device.kind !== 'block') continue;
    const attach = (): Promise<string> => vm.attachBlockDevice(device.hostPath, device.writable, signal);
    all.set(blockKey(device), { key: blockKey(device), attach });
  }
  return [...all.values()];
}

/**
 * Attaches what no other container of the pod has already. `attached` is told of each disk at once, so
 * that a failure half-way leaves none that nobody knows.
 */
export async function attachDisks(
  { sandbox, record }: ContainerEntry,
  vm: Vm,
  images: Images,
  config: ContainerConfig,
  devices: readonly GuestDevice[],
  attached: (disks: readonly AttachedDisk[]) => Promise<void>,
  signal: AbortSignal,
): Promise<readonly AttachedDisk[]> {
  const disks: AttachedDisk[] = [];
  for (const { key, attach } of wanted(vm, images, record.imageId, config, devices, signal)) {
    const shared = [...sandbox.containers].flatMap((entry) => entry.record.disks).find((disk) => disk.key === key);
    disks.push(shared ?? { key, serial: await attach() });
    await attached([...disks]);
  }
  return disks;
}

/** Detaches the disks of a container that no other one uses. The guest must not have it any more. */
export async function releaseDisks(sandbox: SandboxEntry, vm: Vm, leaving: ContainerEntry): Promise<void> {
  for (const serial of ownSerials(sandbox, leaving)) await vm.detachDisk(serial);
}

/** The same for a container that may never have been in the guest, where its image may have been held ready all the same. */
export async function abandonDisks(sandbox: SandboxEntry, vm: Vm, leaving: ContainerEntry): Promise<void> {
  for (const serial of ownSerials(sandbox, leaving)) {
    await vm.agent.forgetImage(serial).catch((error: unknown) => {
      // A guest of an earlier version, that has been up since then.
      if (!(error instanceof AppError && error.kind === 'unimplemented')) throw error;
    });
    await vm.detachDisk(serial);
  }
}

function ownSerials(sandbox: SandboxEntry, leaving: ContainerEntry): readonly string[] {
  const others = [...sandbox.containers].filter((entry) => entry !== leaving);
  const shared = new Set(others.flatMap(({ record }) => record.disks.map(({ serial }) => serial)));
  return leaving.record.disks.map(({ serial }) => serial).filter((serial) => !shared.has(serial));
}

/** Serial of the disk with a content that was attached for this container. */
export function serialOf({ disks }: Pick<ContainerRecord, 'disks'>, key: string): string | undefined {
  return disks.find((disk) => disk.key === key)?.serial;
}
