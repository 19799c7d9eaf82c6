import { randomBytes } from 'node:crypto';
import { CleanupStack } from '../platform/cleanup-stack.ts';
import { wrap } from '../platform/errors.ts';
import type { ProcessIdentity } from '../platform/processes.ts';
import type { MachineShape, MachineSpec } from './hypervisor.ts';
import { type StepTrace, untraced } from './step-trace.ts';
import type { UidPool } from './uid-pool.ts';
import type { CgroupPlace } from './cgroup/cgroups.ts';
import type { GroupLimits } from './cgroup/limits.ts';
import { VmFolder, type VmFolders, type VmRecord } from './vm-folder.ts';

/** Network namespaces of VMs; each holds a tap of the name below. */
export interface VmNamespaces {
  /** Path of a VM's namespace, whether it exists or not. */
  path(vmId: string): string;
  create(vmId: string): Promise<string>;
  /** Idempotent. */
  remove(vmId: string): Promise<void>;
  list(): Promise<readonly string[]>;
}

/** Cgroups of VMs on the host. */
export interface VmCgroups {
  /** Folders for the jailer to join. */
  create(vmId: string): Promise<readonly string[]>;
  /** Where a VM will be below its pod's group; to be recorded before it is moved. */
  place(vmId: string, parent: string): Promise<CgroupPlace>;
  move(pid: number, place: CgroupPlace, parent: string): Promise<void>;
  /** A place that an earlier daemon has recorded. */
  found(place: CgroupPlace): void;
  limit(vmId: string, place: CgroupPlace | undefined, limits: GroupLimits): Promise<void>;
  /** Kills whatever runs in the VM's groups. */
  kill(vmId: string, place?: CgroupPlace): Promise<void>;
  /** Idempotent. */
  remove(vmId: string, place?: CgroupPlace): Promise<void>;
}

export type MakeScratch = (path: string, bytes: number, uid: number) => Promise<void>;

export const tapName = 'tap0';

export interface SiteServices {
  readonly folders: VmFolders;
  readonly uids: UidPool;
  readonly netns: VmNamespaces;
  readonly cgroups: VmCgroups;
  readonly makeScratch: MakeScratch;
}

/** What a VM is made for; recorded for whoever looks at its folder. */
export interface SitePurpose {
  readonly className: string;
  readonly vcpus: number;
  readonly memoryBytes: number;
  readonly origin: VmRecord['origin'];
  readonly scratchBytes: number;
  readonly slotBytes: number;
}

/** All that a VM has on the host beside its process: folders, user id, namespace, cgroup, scratch disk. */
export class VmSite {
  readonly vmId: string;
  readonly folder: VmFolder;
  readonly netns: string;
  readonly #services: SiteServices;
  readonly #cgroups: readonly string[];
  #record: VmRecord;
  #vacated = false;
  #removed = false;

  private constructor(services: SiteServices, folder: VmFolder, record: VmRecord, cgroups: readonly string[]) {
    this.vmId = record.vmId;
    this.folder = folder;
    this.#record = record;
    this.netns = services.netns.path(record.vmId);
    this.#services = services;
    this.#cgroups = cgroups;
  }

  get record(): VmRecord {
    return this.#record;
  }

  /** Makes everything or leaves nothing. The record comes first: a crash half-way is found by it. */
  static async prepare(
    services: SiteServices,
    purpose: SitePurpose,
    live: Set<string>,
    trace: StepTrace = untraced,
  ): Promise<VmSite> {
    const vmId = randomBytes(8).toString('hex');
    const undo = new CleanupStack();
    live.add(vmId);
    undo.defer('forget', async () => {
      live.delete(vmId);
    });
    try {
      const uid = services.uids.acquire();
      undo.defer('user id', async () => {
        services.uids.release(uid);
      });
      const record: VmRecord = {
        version: 1,
        vmId,
        uid,
        className: purpose.className,
        vcpus: purpose.vcpus,
        memoryBytes: purpose.memoryBytes,
        origin: purpose.origin,
        slotBytes: purpose.slotBytes,
        createdAt: new Date().toISOString(),
      };
      const folder = new VmFolder(services.folders, vmId);
      undo.defer('folders', () => folder.remove());
      await folder.create(record);
      undo.defer('network namespace', () => services.netns.remove(vmId));
      undo.defer('cgroup', () => services.cgroups.remove(vmId));
      // All have ended before any is undone.
      const [netns, cgroups, scratch] = await Promise.allSettled([
        trace.step('vm.netns', () => services.netns.create(vmId)),
        trace.step('vm.cgroup', () => services.cgroups.create(vmId)),
        trace.step('vm.scratch', () => services.makeScratch(folder.scratch, purpose.scratchBytes, uid)),
      ]);
      for (const part of [netns, scratch]) if (part.status === 'rejected') throw part.reason;
      if (cgroups.status === 'rejected') throw cgroups.reason;
      return new VmSite(services, folder, record, cgroups.value);
    } catch (error) {
      await undo.unwind();
      throw wrap(error, `prepare vm ${vmId}`);
    }
  }

  /** That of a VM which an earlier daemon made. */
  static found(services: SiteServices, folder: VmFolder, record: VmRecord): VmSite {
    if (record.cgroup) services.cgroups.found(record.cgroup);
    return new VmSite(services, folder, record, []);
  }

  spec(shape: MachineShape): MachineSpec {
    return {
      shape,
      folder: this.folder,
      uid: this.record.uid,
      netns: this.netns,
      tap: tapName,
      cgroups: this.#cgroups,
    };
  }

  async recordProcess(process: ProcessIdentity): Promise<void> {
    await this.#write({ process: { ...process }, netns: this.netns });
  }

  /** Moves the VM's process below its pod's group. */
  async joinCgroup(parent: string, pid: number): Promise<void> {
    const { cgroups } = this.#services;
    const cgroup = await cgroups.place(this.vmId, parent);
    await this.#write({ cgroup });
    await cgroups.move(pid, cgroup, parent);
  }

  limit(limits: GroupLimits): Promise<void> {
    return this.#services.cgroups.limit(this.vmId, this.#record.cgroup, limits);
  }

  async #write(change: Partial<VmRecord>): Promise<void> {
    const record = { ...this.#record, ...change };
    await this.folder.writeRecord(record);
    this.#record = record;
  }

  /**
   * Removes all but the network namespace, which may still be needed; the process must be gone. The folder with the
   * record goes last, so that what is left of a failed removal is found. Idempotent.
   */
  async vacate(): Promise<void> {
    if (this.#vacated) return;
    await this.#services.cgroups.remove(this.vmId, this.#record.cgroup);
    await this.folder.remove();
    this.#vacated = true;
  }

  /** Removes all of it; the process must be gone. Goes on after a failure, and can be tried again. */
  async remove(live: Set<string>): Promise<void> {
    if (this.#removed) return;
    const undo = new CleanupStack();
    undo.defer('cgroup and folders', () => this.vacate());
    // Found without the record as well, by a mark of its own.
    undo.defer('network namespace', () => this.#services.netns.remove(this.vmId));
    try {
      await undo.unwind();
    } catch (error) {
      throw wrap(error, `remove vm ${this.vmId}`);
    }
    this.#removed = true;
    this.#services.uids.release(this.record.uid);
    live.delete(this.vmId);
  }
}
