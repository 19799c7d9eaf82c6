import { randomInt } from 'node:crypto';
import { access, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { chooseAccelerator, probeTimeoutMs } from './accelerator.ts';
import { Cgroups } from './cgroup/cgroups.ts';
import type { CgroupDriver } from './cgroup/parent-path.ts';
import { startScope } from './cgroup/systemd-scope.ts';
import { loadGuestImage, type GuestImage } from './guest-image.ts';
import type { GuestConnection, GuestLink } from './guest-link.ts';
import { readHostMemory } from './host-memory.ts';
import { confineGroup } from './jailer-confine.ts';
import { MemoryWatch } from './memory-watch.ts';
import { QemuVmProvider } from './provider.ts';
import type { Accelerator } from './qemu/devices/accelerator.ts';
import { portIds } from './qemu/devices/guest-channel.ts';
import { QemuHypervisor } from './qemu/qemu-hypervisor.ts';
import { qemuVersion } from './qemu-version.ts';
import { createScratchDisk } from './scratch-disk.ts';
import { JailerMemories } from './template-memory.ts';
import { TemplateStore } from './template-store.ts';
import { Templates } from './templates.ts';
import { defaultUidRange, UidPool } from './uid-pool.ts';
import { type VmClass, VmClasses, vmClassDefaults } from './vm-class.ts';
import { VmFactory } from './vm-factory.ts';
import { VmFolder } from './vm-folder.ts';
import type { SiteServices, VmNamespaces } from './vm-site.ts';

export interface OpenProviderOptions<A extends GuestConnection> {
  /** Images and disks, e.g. /var/lib/kelyfos. */
  readonly root: string;
  /** Sockets and templates, e.g. /run/kelyfos; a mount point with shared propagation. */
  readonly state: string;
  readonly accelerator: 'auto' | Accelerator;
  /** QEMU: a name in /usr/bin, or a path. */
  readonly qemu: string;
  readonly jailer: string;
  /** Folder of the guest image. */
  readonly guestImage: string;
  readonly classes: readonly VmClass[];
  readonly netns: VmNamespaces;
  readonly guest: GuestLink<A>;
  /** Size of every image file, sparse. */
  readonly imageBytes: number;
  readonly bootTimeoutMs: number;
  /** Less memory available on the host is too little for VMs that nobody has asked for. */
  readonly memoryReserveBytes: number;
  readonly log: Log;
  readonly cgroupDriver: CgroupDriver;
}

export interface OpenProvider<A extends GuestConnection> {
  readonly provider: QemuVmProvider<A>;
  /** For the daemon's first log line. */
  readonly accelerator: Accelerator;
  readonly qemuVersion: string;
  readonly guestImage: GuestImage;
  /** Stops the refill and ends idle VMs; VMs of sandboxes and templates go on. */
  close(): Promise<void>;
}

/** Puts the VM side of the daemon together. Nothing runs until `provider.start()`. */
export async function openProvider<A extends GuestConnection>(
  options: OpenProviderOptions<A>,
): Promise<OpenProvider<A>> {
  const { log, guest } = options;
  const folders = { state: options.state, root: options.root };
  await Promise.all([
    // Traversable: the jailed processes reach their own folders below.
    mkdir(join(options.state, 'vms'), { recursive: true, mode: 0o711 }),
    mkdir(join(options.root, 'vms'), { recursive: true, mode: 0o711 }),
    mkdir(join(options.state, 'templates'), { recursive: true, mode: 0o700 }),
  ]);
  const [version, guestImage, cgroups] = await Promise.all([
    qemuVersion(options.qemu),
    loadGuestImage(options.guestImage),
    Cgroups.detect({
      driver: options.cgroupDriver,
      startScope,
      confine: (folder) => confineGroup(options.jailer, folder, accelerator === 'kvm'),
      log,
    }),
  ]);
  const uids = new UidPool(defaultUidRange, randomInt(defaultUidRange.count));
  await reserveUids(folders, uids, log);
  const site: SiteServices = { folders, uids, netns: options.netns, cgroups, makeScratch: createScratchDisk };
  const jailer = {
    binary: options.jailer,
    qemu: options.qemu,
    readOnlyPaths: options.qemu.startsWith('/') && !options.qemu.startsWith('/usr/') ? [options.qemu] : [],
  };
  const hypervisor = new QemuHypervisor(jailer, version.text, log);
  const factory = new VmFactory({ hypervisor, guest, site, log });
  const accelerator = await chooseAccelerator({
    setting: options.accelerator,
    file: join(options.root, 'accelerator.json'),
    key: {
      bootId: (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim(),
      qemu: version.text,
      guest: guestImage.key,
    },
    hasKvm: () => exists('/dev/kvm'),
    bootUnderKvm: (signal) => bootUnderKvm(factory, hypervisor, guestImage, signal),
    log,
  });
  const stopping = new AbortController();
  const templates = new Templates({
    hypervisor,
    guest,
    factory,
    store: new TemplateStore(join(options.state, 'templates'), new JailerMemories(options.jailer), log),
    log,
    makeTimeoutMs: options.bootTimeoutMs,
    stopping: stopping.signal,
  });
  const provider = new QemuVmProvider({
    classes: new VmClasses(options.classes),
    guestImage,
    accelerator,
    hypervisor,
    guest,
    factory,
    templates,
    site,
    memory: new MemoryWatch({ reserveBytes: options.memoryReserveBytes, read: () => readHostMemory(), log }),
    log,
    imageBytes: options.imageBytes,
    bootTimeoutMs: options.bootTimeoutMs,
  });
  return {
    provider,
    accelerator,
    qemuVersion: version.text,
    guestImage,
    close: async () => {
      stopping.abort();
      await provider.stop();
    },
  };
}

async function bootUnderKvm<A extends GuestConnection>(
  factory: VmFactory<A>,
  hypervisor: QemuHypervisor,
  guestImage: GuestImage,
  signal: AbortSignal,
): Promise<string | undefined> {
  const order = {
    className: 'probe',
    scratchBytes: 64 * 1024 ** 2,
    shape: {
      accelerator: 'kvm' as const,
      vcpus: 1,
      memoryBytes: 256 * 1024 ** 2,
      translationBytes: vmClassDefaults.translationBytes,
      slotBytes: 1024 ** 3,
      extraArguments: [],
      guest: guestImage,
    },
  };
  const progress = { started: false };
  try {
    await factory.bare(
      order,
      'probe',
      (place) => {
        progress.started = true;
        return hypervisor.boot(place.spec(order.shape), signal);
      },
      async (machine) => {
        const ended = machine.exited.then((exit): never => {
          throw new Error(exit.reason);
        });
        ended.catch(() => undefined);
        await Promise.race([machine.portOpened(portIds.data, signal), ended]);
      },
    );
    return undefined;
  } catch (error) {
    // What fails before QEMU is started says nothing about KVM and must not be remembered.
    if (!progress.started) throw error;
    return signal.aborted ? `its agent was not there within ${String(probeTimeoutMs / 1000)} s` : messageOf(error);
  }
}

/** VMs of an earlier daemon keep their user ids, whether they will be adopted or removed. */
async function reserveUids(folders: { state: string; root: string }, uids: UidPool, log: Log): Promise<void> {
  for (const vmId of await VmFolder.list(folders)) {
    try {
      const record = await new VmFolder(folders, vmId).readRecord();
      if (record) uids.reserve(record.uid);
    } catch (error) {
      log.warn({ vmId }, messageOf(error));
    }
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}
