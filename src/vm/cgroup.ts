import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError, hasCode } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';

/** Threads of one QEMU: vCPUs, its I/O pool of 64, 9p. Far below what would hurt the host. */
const maxThreads = 512;
/** The kernel needs a moment to forget the last task of a group. */
const removeAttempts = 40;
const removePauseMs = 25;

/** v1 controllers in which a new group is usable as it is; cpuset would have to be filled in first. */
const v1Controllers = new Set([
  'cpu',
  'cpuacct',
  'memory',
  'pids',
  'freezer',
  'blkio',
  'devices',
  'hugetlb',
  'perf_event',
  'net_cls',
  'net_prio',
]);
const v2Controllers = ['cpu', 'memory', 'pids', 'io'];

export interface CgroupHierarchy {
  readonly mountPoint: string;
  readonly version: 1 | 2;
}

/**
 * The VM's own cgroup on the host, on each hierarchy there is: the unified one of cgroup v2, or the
 * controllers of v1 (with a v2 tree beside them on hybrid hosts).
 */
export class Cgroups {
  readonly #hierarchies: readonly CgroupHierarchy[];
  readonly #parent: string;

  constructor(hierarchies: readonly CgroupHierarchy[], parent = 'kelyfos') {
    this.#hierarchies = hierarchies;
    this.#parent = parent;
  }

  static async detect(log: Log, parent?: string): Promise<Cgroups> {
    const hierarchies = parseHierarchies(await readFile('/proc/self/mountinfo', 'utf8'));
    if (hierarchies.length === 0) log.warn('no cgroup hierarchy is mounted: virtual machines run without a cgroup');
    return new Cgroups(hierarchies, parent);
  }

  /** Folders of a VM's groups, to be joined by the jailer. */
  folders(vmId: string): string[] {
    return this.#hierarchies.map((hierarchy) => join(hierarchy.mountPoint, this.#parent, vmId));
  }

  async create(vmId: string): Promise<string[]> {
    for (const { mountPoint, version } of this.#hierarchies) {
      const parent = join(mountPoint, this.#parent);
      await mkdir(parent, { recursive: true });
      if (version === 2) await delegate(mountPoint, parent);
      const folder = join(parent, vmId);
      await mkdir(folder, { recursive: true });
      await writeIfThere(join(folder, 'pids.max'), String(maxThreads));
    }
    return this.folders(vmId);
  }

  /** Kills whatever is in the VM's groups, also what no record names. */
  async kill(vmId: string): Promise<void> {
    const lists = await Promise.all(this.folders(vmId).map(processesOf));
    for (const pid of new Set(lists.flat())) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if (!hasCode(error, 'ESRCH')) throw error;
      }
    }
  }

  /** Idempotent. Fails while a process is still in one of the groups. */
  async remove(vmId: string): Promise<void> {
    await Promise.all(this.folders(vmId).map(removeGroup));
  }
}

/** Hierarchies of a mountinfo file that VMs get a group in, each mount once. */
export function parseHierarchies(mountinfo: string): CgroupHierarchy[] {
  const found = new Map<string, CgroupHierarchy>();
  for (const line of mountinfo.split('\n')) {
    const [mount = '', source = ''] = line.split(' - ');
    const [root, mountPoint] = mount.split(' ').slice(3, 5);
    const [type, , superOptions = ''] = source.split(' ');
    if (mountPoint === undefined || root === undefined) continue;
    if (type === 'cgroup2') found.set('unified', { mountPoint, version: 2 });
    if (type !== 'cgroup') continue;
    const controllers = superOptions.split(',').filter((name) => v1Controllers.has(name));
    if (controllers.length > 0) found.set(controllers.join(','), { mountPoint, version: 1 });
  }
  return [...found.values()];
}

/** Makes controllers available to the groups of VMs, as far as the host lets them go. */
async function delegate(mountPoint: string, parent: string): Promise<void> {
  const available = (await readFile(join(mountPoint, 'cgroup.controllers'), 'utf8')).split(/\s+/);
  for (const controller of v2Controllers.filter((name) => available.includes(name))) {
    for (const folder of [mountPoint, parent]) {
      try {
        await writeFile(join(folder, 'cgroup.subtree_control'), `+${controller}`);
      } catch (error) {
        // Busy when a process sits in the group, which is the host administrator's choice.
        if (!hasCode(error, 'EBUSY', 'ENOENT', 'EINVAL', 'EACCES', 'ENOTSUP')) throw error;
      }
    }
  }
}

async function processesOf(folder: string): Promise<number[]> {
  try {
    const text = await readFile(join(folder, 'cgroup.procs'), 'utf8');
    return text
      .split('\n')
      .filter((line) => /^[1-9]\d*$/.test(line))
      .map(Number);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENODEV')) return [];
    throw error;
  }
}

async function writeIfThere(path: string, value: string): Promise<void> {
  try {
    await writeFile(path, value, { flag: 'r+' });
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'EACCES', 'EPERM')) throw error;
  }
}

async function removeGroup(folder: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await rmdir(folder);
      return;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return;
      if (!hasCode(error, 'EBUSY') || attempt === removeAttempts) {
        throw new AppError('internal', `remove cgroup ${folder}`, { cause: error });
      }
    }
    await delay(removePauseMs);
  }
}
