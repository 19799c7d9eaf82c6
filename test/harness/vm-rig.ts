import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { GuestAgent } from '../../src/agent/guest-agent.ts';
import { installDir } from '../../src/config/install-dir.ts';
import { guestLink } from '../../src/guest-link.ts';
import { makeRehearsalImage } from '../../src/image/rehearsal-image.ts';
import { NetworkNamespaces } from '../../src/network/network-namespaces.ts';
import { Networker } from '../../src/network/networker.ts';
import { silentLog, type Log } from '../../src/platform/log.ts';
import type { GuestLink } from '../../src/vm/guest-link.ts';
import { openProvider, type OpenProvider } from '../../src/vm/open-provider.ts';
import { vmClassDefaults, type VmClass } from '../../src/vm/vm-class.ts';
import { networkerProgram } from './networker.ts';

const gibibyte = 1024 ** 3;
/** Size of the images of these tests, as the configuration has it for a daemon. */
export const imageBytes = 4 * gibibyte;
export const jailer = join(installDir, 'libexec', 'kelyfos-jailer');

export const smallClass: VmClass = {
  ...vmClassDefaults,
  name: 'small',
  memoryBytes: 512 * 1024 ** 2,
  scratchBytes: gibibyte,
  poolSize: 0,
  rehearse: false,
};

export interface VmRigOptions {
  /** A short path; state and root are made below it. */
  readonly folder: string;
  readonly classes?: readonly VmClass[];
  readonly accelerator?: 'auto' | 'kvm' | 'tcg';
  readonly log?: Log;
  readonly memoryReserveBytes?: number;
}

export interface VmRig extends OpenProvider<GuestAgent> {
  readonly state: string;
  readonly root: string;
  readonly image: string;
  readonly guest: GuestLink<GuestAgent>;
}

/** The VM side of a daemon with everything real, and nothing of CRI. */
export async function openVmRig(options: VmRigOptions): Promise<VmRig> {
  const { folder, log = silentLog() } = options;
  const [state, root] = [join(folder, 's'), join(folder, 'r')];
  for (const path of [state, root]) await mkdir(path, { recursive: true, mode: 0o711 });
  const image = join(root, 'rehearsal.erofs');
  const mkfsErofs = join(installDir, 'libexec', 'mkfs.erofs');
  await makeRehearsalImage({ path: image, mkfsErofs, bytes: imageBytes });
  const none = {
    find: () => undefined,
    rootfs: (id: string) => {
      throw new Error(`image ${id} is not here`);
    },
  };
  const noNetwork = {
    version: '',
    make: () => Promise.reject(new Error('there is no network')),
    giveBack: () => Promise.resolve(),
  };
  const guest = guestLink(image, none, noNetwork, log);
  const networker = new Networker({ program: networkerProgram, log });
  const opened = await openProvider({
    root,
    state,
    accelerator: options.accelerator ?? 'tcg',
    qemu: 'qemu-system-x86_64',
    jailer,
    cgroupDriver: 'cgroupfs',
    guestImage: join(installDir, 'guest', 'image', 'current'),
    classes: options.classes ?? [smallClass],
    netns: new NetworkNamespaces({ networker, markerDir: join(state, 'netns') }),
    guest,
    imageBytes,
    bootTimeoutMs: 90_000,
    memoryReserveBytes: options.memoryReserveBytes ?? 0,
    log,
  });
  const close = async (): Promise<void> => {
    await opened.close();
    networker.close();
  };
  return { ...opened, close, state, root, image, guest };
}
