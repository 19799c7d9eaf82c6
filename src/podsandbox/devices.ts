import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, hasCode, wrap } from '../platform/errors.ts';
import type { ContainerDevice } from './model.ts';

interface Node {
  readonly containerPath: string;
  /** Of "rwm". */
  readonly access: string;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** A device of a container, as a virtual machine can have it. */
export type GuestDevice =
  | (Node & {
      /** A block device of the host, which becomes a disk. */
      readonly kind: 'block';
      readonly hostPath: string;
      /** major:minor on the host. */
      readonly device: string;
      readonly writable: boolean;
    })
  | (Node & {
      /** A device that the guest's kernel has itself. */
      readonly kind: 'guest';
      readonly guestPath: string;
    });

/** Character devices without hardware behind them, by major:minor: Linux Documentation/admin-guide/devices.txt. */
const guestDevices: ReadonlyMap<string, string> = new Map([
  ['1:3', '/dev/null'],
  ['1:5', '/dev/zero'],
  ['1:7', '/dev/full'],
  ['1:8', '/dev/random'],
  ['1:9', '/dev/urandom'],
  ['1:11', '/dev/kmsg'],
  ['5:0', '/dev/tty'],
  ['10:183', '/dev/hwrng'],
  ['10:200', '/dev/net/tun'],
  ['10:229', '/dev/fuse'],
]);

/** Folders of /dev that hold no device for a container. */
const passedOver: ReadonlySet<string> = new Set(['pts', 'shm', 'fd', 'mqueue']);

/** The device of the guest that does the same as one of the host with these numbers. */
export function guestDeviceLike(rdev: number): string | undefined {
  return guestDevices.get(numbers(rdev));
}

/** Finds out what each device asked for is. A folder stands for the devices in it. */
export async function resolveDevices(devices: readonly ContainerDevice[]): Promise<readonly GuestDevice[]> {
  const resolved: GuestDevice[] = [];
  for (const device of devices) resolved.push(...(await resolve(device, true)));
  return resolved;
}

async function resolve(device: ContainerDevice, named: boolean): Promise<readonly GuestDevice[]> {
  const { hostPath, containerPath } = device;
  const where = `device "${hostPath}"`;
  const access = device.permissions === '' ? 'rwm' : device.permissions;
  let path: string;
  let found: Awaited<ReturnType<typeof stat>>;
  try {
    path = await realpath(hostPath);
    found = await stat(path);
  } catch (error) {
    // What the guest has does not depend on the host.
    const guestPath = [...guestDevices.values()].find((known) => known === hostPath);
    if (guestPath === undefined || !hasCode(error, 'ENOENT')) {
      throw wrap(error, where, hasCode(error, 'ENOENT') ? 'not-found' : 'failed-precondition');
    }
    return [{ kind: 'guest', guestPath, containerPath, access, uid: 0, gid: 0, mode: 0o666, ...device.node }];
  }
  if (found.isDirectory()) return folder(device, path);
  const node = { containerPath, access, uid: found.uid, gid: found.gid, mode: found.mode & 0o7777, ...device.node };
  if (found.isBlockDevice()) {
    const writable = access.includes('w');
    return [{ kind: 'block', hostPath: path, device: numbers(found.rdev), writable, ...node }];
  }
  if (!found.isCharacterDevice()) {
    if (!named) return [];
    throw new AppError('invalid', `${where} is neither a device nor a folder of devices`);
  }
  const guestPath = guestDeviceLike(found.rdev);
  if (guestPath === undefined) throw unknownDevice(hostPath, found.rdev);
  return [{ kind: 'guest', guestPath, ...node }];
}

async function folder(device: ContainerDevice, path: string): Promise<readonly GuestDevice[]> {
  const resolved: GuestDevice[] = [];
  for (const name of (await readdir(path)).sort((a, b) => a.localeCompare(b))) {
    if (passedOver.has(name)) continue;
    const below = { hostPath: join(path, name), containerPath: join(device.containerPath, name) };
    resolved.push(...(await resolve({ ...device, ...below }, false)));
  }
  return resolved;
}

function unknownDevice(path: string, rdev: number): AppError {
  const names = [...guestDevices.values()].map((name) => name.slice('/dev/'.length)).join(', ');
  const why =
    path === '/dev/kvm'
      ? 'virtual machines of pods do not nest'
      : 'hardware of the host cannot be given to a virtual machine';
  return new AppError(
    'failed-precondition',
    `device "${path}" (character device ${numbers(rdev)}): ${why}; a pod can have block devices and ${names}. ` +
      'run it by a handler of the host runtime instead',
  );
}

/** As glibc's gnu_dev_major and gnu_dev_minor take a dev_t apart. */
function numbers(rdev: number): string {
  const all = BigInt(rdev);
  const major = ((all >> 8n) & 0xfffn) | ((all >> 32n) & ~0xfffn);
  const minor = (all & 0xffn) | ((all >> 12n) & ~0xffn & 0xffffffffn);
  return `${String(major)}:${String(minor)}`;
}
