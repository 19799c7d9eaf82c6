import { mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError, hasCode, messageOf } from '../../platform/errors.ts';
import { KeyedMutex } from '../../platform/keyed-mutex.ts';
import type { Log } from '../../platform/log.ts';
import {
  processesOf,
  readIfThere,
  removeGroup,
  removeUnusedGroup,
  writeGroupFile,
  writeIfThere,
} from './group-files.ts';
import { type CgroupHierarchy, parseHierarchies, resourceHierarchies } from './hierarchies.ts';
import { type GroupLimits, limitFiles } from './limits.ts';
import { type CgroupDriver, groupName, parentParts, sliceOf } from './parent-path.ts';
import type { Scope } from './systemd-scope.ts';

/** Threads of one QEMU: vCPUs, its I/O pool of 64, 9p. Far below what would hurt the host. */
const maxThreads = 512;
const v2Controllers = ['cpu', 'cpuset', 'memory', 'pids', 'io'];
/** systemd answers before the process is in its scope. */
const scopeAttempts = 200;
const scopePauseMs = 10;

/** Where a VM has been moved to, for whoever has to find or remove it later. */
export interface CgroupPlace {
  /** Below the root of each hierarchy. */
  readonly path: string;
  /** Groups above it that are there for VMs only, innermost first; they go with the last of them. */
  readonly made: readonly string[];
}

export interface CgroupsOptions {
  readonly hierarchies: readonly CgroupHierarchy[];
  readonly driver: CgroupDriver;
  /** Has systemd make a scope, with the driver of that name. */
  readonly startScope: (scope: Scope) => Promise<void>;
  /** Puts the device rules of a jail on another group of cgroup v2. */
  readonly confine: (folder: string) => Promise<void>;
  readonly log: Log;
  /** Group of all VMs, until their pods are known. */
  readonly home?: string;
}

/**
 * The VM's own cgroup on the host, on each hierarchy there is: the unified one of cgroup v2, or the
 * controllers of v1 (with a v2 tree beside them on hybrid hosts). It starts in the home of all VMs
 * and moves below its pod's group when it gets one.
 */
export class Cgroups {
  readonly #options: CgroupsOptions;
  readonly #home: string;
  readonly #movable: readonly CgroupHierarchy[];
  /** Groups that VMs of this host have been the reason for. */
  readonly #made = new Set<string>();
  /** One making or removing of shared groups at a time. */
  readonly #tree = new KeyedMutex();

  constructor(options: CgroupsOptions) {
    this.#options = options;
    this.#home = options.home ?? 'kelyfos';
    this.#movable = resourceHierarchies(options.hierarchies);
  }

  static async detect(options: Omit<CgroupsOptions, 'hierarchies'>): Promise<Cgroups> {
    const hierarchies = parseHierarchies(await readFile('/proc/self/mountinfo', 'utf8'));
    if (hierarchies.length === 0)
      options.log.warn('no cgroup hierarchy is mounted: virtual machines run without a cgroup');
    return new Cgroups({ ...options, hierarchies });
  }

  /** Folders of a VM's first groups, to be joined by the jailer. */
  folders(vmId: string): string[] {
    return this.#options.hierarchies.map(({ mountPoint }) => join(mountPoint, this.#home, vmId));
  }

  async create(vmId: string): Promise<string[]> {
    await Promise.all(this.#options.hierarchies.map((hierarchy) => makeGroup(hierarchy, [this.#home, vmId])));
    return this.folders(vmId);
  }

  /** Where a VM will be below its pod's group. Changes nothing: to be recorded before `move`. */
  async place(vmId: string, parent: string): Promise<CgroupPlace> {
    const { driver } = this.#options;
    const parts = parentParts(driver, parent);
    const made: string[] = [];
    for (const { mountPoint } of this.#movable) {
      for (let depth = parts.length; depth > 0; depth--) {
        const folder = join(mountPoint, ...parts.slice(0, depth));
        // Slices are systemd's own to make and remove.
        if (driver === 'cgroupfs' && (this.#made.has(folder) || !(await exists(folder)))) made.push(folder);
      }
    }
    return { path: join(...parts, groupName(driver, vmId)), made };
  }

  /** Moves a process with all its threads. Memory that it has touched stays charged to where it was. */
  async move(pid: number, place: CgroupPlace, parent: string): Promise<void> {
    this.found(place);
    const parts = place.path.split('/');
    const { driver, startScope, confine } = this.#options;
    if (driver === 'systemd') {
      await startScope({ unit: parts.at(-1) ?? '', slice: sliceOf(parent), pid, maxTasks: maxThreads });
      await Promise.all(this.#movable.map((hierarchy) => awaitScope(hierarchy, place.path, pid)));
    }
    await this.#tree.run('', async () => {
      for (const hierarchy of this.#movable) await makeGroup(hierarchy, parts);
    });
    await Promise.all(
      this.#movable.map(async ({ mountPoint, version }) => {
        const folder = join(mountPoint, place.path);
        if (version === 2) await confine(folder);
        await writeGroupFile(join(folder, 'cgroup.procs'), String(pid));
      }),
    );
  }

  /** A place that an earlier daemon has recorded. */
  found(place: CgroupPlace): void {
    for (const folder of place.made) this.#made.add(folder);
  }

  /** All limits, or none after an error. Memory below what the VM holds is refused: the kernel would end it. */
  async limit(vmId: string, place: CgroupPlace | undefined, limits: GroupLimits): Promise<void> {
    const path = place?.path ?? join(this.#home, vmId);
    await Promise.all(this.#movable.map(({ mountPoint }) => refuseBelowUsage(join(mountPoint, path), limits)));
    const undo: (() => Promise<void>)[] = [];
    try {
      for (const { mountPoint, version, controllers } of this.#movable) {
        for (const { controller, file, value } of limitFiles(version, limits)) {
          if (version === 1 && !controllers.includes(controller)) continue;
          const target = join(mountPoint, path, file);
          const before = await readIfThere(target);
          if (before === undefined) {
            this.#options.log.warn(
              { vmId },
              `${target} is not there: the host does not limit this vm by ${controller}`,
            );
            continue;
          }
          await writeLimit(target, value, version === 1 && file === 'cpu.cfs_quota_us');
          undo.push(() => writeGroupFile(target, before));
        }
      }
    } catch (error) {
      for (const takeBack of undo.reverse()) {
        await takeBack().catch((left: unknown) => {
          this.#options.log.warn({ vmId }, `cannot take back a limit: ${messageOf(left)}`);
        });
      }
      throw error;
    }
  }

  /** Kills whatever is in the VM's groups, also what no record names. */
  async kill(vmId: string, place?: CgroupPlace): Promise<void> {
    const lists = await Promise.all(this.#all(vmId, place).map(processesOf));
    for (const pid of new Set(lists.flat())) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if (!hasCode(error, 'ESRCH')) throw error;
      }
    }
  }

  /** Idempotent. Fails while a process is still in one of the groups. */
  async remove(vmId: string, place?: CgroupPlace): Promise<void> {
    await Promise.all(this.#all(vmId, place).map(removeGroup));
    if (place === undefined) return;
    await this.#tree.run('', async () => {
      for (const folder of place.made) if (await removeUnusedGroup(folder)) this.#made.delete(folder);
    });
  }

  #all(vmId: string, place: CgroupPlace | undefined): string[] {
    const moved = place === undefined ? [] : this.#movable.map(({ mountPoint }) => join(mountPoint, place.path));
    return [...this.folders(vmId), ...moved];
  }
}

async function exists(folder: string): Promise<boolean> {
  try {
    await stat(folder);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}

/** Makes a group with those above it, so that processes can join it. */
async function makeGroup({ mountPoint, version, controllers }: CgroupHierarchy, parts: readonly string[]) {
  let folder = mountPoint;
  for (const part of parts) {
    if (version === 2) await enableControllers(folder);
    const parent = folder;
    folder = join(parent, part);
    await mkdir(folder, { recursive: true });
    if (controllers.includes('cpuset')) await inheritCpuset(parent, folder);
  }
  await writeIfThere(join(folder, 'pids.max'), String(maxThreads));
}

/** Makes controllers available below a group, as far as the host lets them go. */
async function enableControllers(folder: string): Promise<void> {
  const available = ((await readIfThere(join(folder, 'cgroup.controllers'))) ?? '').split(/\s+/);
  const enabled = ((await readIfThere(join(folder, 'cgroup.subtree_control'))) ?? '').split(/\s+/);
  for (const controller of v2Controllers.filter((name) => available.includes(name) && !enabled.includes(name))) {
    try {
      await writeGroupFile(join(folder, 'cgroup.subtree_control'), `+${controller}`);
    } catch (error) {
      // Busy when a process sits in the group, which is the host administrator's choice.
      if (!hasCode(error, 'EBUSY', 'ENOENT', 'EINVAL', 'EACCES', 'ENOTSUP')) throw error;
    }
  }
}

/** A new cpuset of v1 is empty, and nothing can join it. */
async function inheritCpuset(parent: string, folder: string): Promise<void> {
  for (const file of ['cpuset.mems', 'cpuset.cpus']) {
    const [above, own] = await Promise.all([parent, folder].map((group) => readFile(join(group, file), 'utf8')));
    if (own?.trim() === '' && above !== undefined) await writeGroupFile(join(folder, file), above.trim());
  }
}

/** Until the process is in the scope, as seen by the hierarchy if systemd uses it. */
async function awaitScope({ mountPoint, version }: CgroupHierarchy, path: string, pid: number): Promise<void> {
  if (version === 1) return;
  for (let attempt = 1; !(await processesOf(join(mountPoint, path))).includes(pid); attempt++) {
    if (attempt === scopeAttempts) throw new AppError('internal', `process ${String(pid)} is not in cgroup ${path}`);
    await delay(scopePauseMs);
  }
}

async function refuseBelowUsage(folder: string, { memoryBytes }: GroupLimits): Promise<void> {
  if (memoryBytes <= 0n) return;
  const text =
    (await readIfThere(join(folder, 'memory.current'))) ?? (await readIfThere(join(folder, 'memory.usage_in_bytes')));
  if (text === undefined || BigInt(text.trim()) <= memoryBytes) return;
  throw new AppError(
    'failed-precondition',
    `memory: ${String(memoryBytes)} bytes are less than the ${text.trim()} that the virtual machine holds`,
  );
}

/**
 * cgroup v1 takes no quota above that of the group over it. A kubelet raises its own only after ours:
 * then ours is left to the group above, which is the same.
 */
async function writeLimit(target: string, value: string, orUnlimited: boolean): Promise<void> {
  try {
    await writeGroupFile(target, value);
  } catch (error) {
    if (orUnlimited && hasCode(error, 'EINVAL')) await writeGroupFile(target, '-1');
    else
      throw new AppError('failed-precondition', `write "${value}" to ${target}: ${messageOf(error)}`, { cause: error });
  }
}
