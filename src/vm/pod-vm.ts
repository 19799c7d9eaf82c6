import { messageOf, wrap } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { GroupLimits } from './cgroup/limits.ts';
import type { GuestConnection } from './guest-link.ts';
import { findGroups, type GroupFolders, readHostUsage, type HostUsage } from './host-usage.ts';
import type { Machine, MachineExit } from './hypervisor.ts';
import { shareTag } from './qemu/devices/share.ts';
import type { VmDisks } from './vm-disks.ts';
import { tapName, type VmSite } from './vm-site.ts';

/** Where a VM came from, fastest first. */
export type VmOrigin = 'pool' | 'clone' | 'cold';

export interface PodVmParts<A> {
  readonly site: VmSite;
  readonly machine: Machine;
  readonly agent: A;
  readonly disks: VmDisks;
  readonly origin: VmOrigin;
  readonly log: Log;
  /** Ids of VMs that exist; this one is taken out when it is gone. */
  readonly live: Set<string>;
}

/** A running VM with a connected agent: a machine, its place on the host, and the way into its guest. */
export class PodVm<A extends GuestConnection> {
  readonly id: string;
  readonly netns: string;
  readonly share: string;
  readonly shareTag = shareTag;
  readonly size: { readonly vcpus: number; readonly memoryBytes: number };
  readonly pid: number;
  readonly agent: A;
  readonly exited: Promise<MachineExit>;
  readonly #site: VmSite;
  readonly #machine: Machine;
  readonly #disks: VmDisks;
  readonly #log: Log;
  readonly #live: Set<string>;
  #origin: VmOrigin;
  #podId: string | undefined;
  /** Takes away what was made for the pod that was to get it, until there is one. */
  #release: (() => Promise<void>) | undefined;
  /** Where its accounts are, once they have been looked for. */
  #groups: GroupFolders | undefined;
  #destroying: Promise<void> | undefined;

  constructor(parts: PodVmParts<A>) {
    this.id = parts.site.vmId;
    this.netns = parts.site.netns;
    this.share = parts.site.folder.share;
    const { vcpus, memoryBytes } = parts.site.record;
    this.size = { vcpus, memoryBytes };
    this.pid = parts.machine.process.pid;
    this.agent = parts.agent;
    this.exited = parts.machine.exited;
    this.#site = parts.site;
    this.#machine = parts.machine;
    this.#disks = parts.disks;
    this.#origin = parts.origin;
    this.#log = parts.log;
    this.#live = parts.live;
    // Nobody answers any more: calls that wait for a connection must not wait for their time-out.
    void parts.machine.exited.then(() => this.#closeAgent());
  }

  get origin(): VmOrigin {
    return this.#origin;
  }

  /** The id that the pod of this VM must have, if it is given a network before there is one. */
  get podId(): string | undefined {
    return this.#podId;
  }

  /** For a VM of the pool: `release` undoes what was made for the pod, if it is ended before it is claimed. */
  reserve(podId: string, release: () => Promise<void>): void {
    this.#podId = podId;
    this.#release = release;
  }

  /** Stops the guest's processors before it waits in the pool; the agent's connection stays open. */
  async park(): Promise<void> {
    await this.#machine.pause();
  }

  /** Lets a parked guest go on, for the pod that has claimed it. */
  async unpark(): Promise<void> {
    await this.#machine.resume();
    this.#origin = 'pool';
    this.#release = undefined;
  }

  /** Moves QEMU below a pod's cgroup, named as in PodSandboxConfig; empty: it stays among the VMs of this runtime. */
  async joinCgroup(parent: string): Promise<void> {
    if (parent === '') return;
    try {
      await this.#site.joinCgroup(parent, this.pid);
    } catch (error) {
      throw wrap(error, `move vm ${this.id} to cgroup ${parent}`);
    } finally {
      this.#groups = undefined;
    }
  }

  /** Limits of the whole VM on the host. */
  limit(limits: GroupLimits): Promise<void> {
    return this.#site.limit(limits);
  }

  attachDisk(source: string, signal: AbortSignal): Promise<string> {
    return this.#disks.attach(source, signal);
  }

  /** Leaves a disk that `attachDisk` has made of a file to the next one who attaches that file. */
  leaveDisk(source: string, serial: string): void {
    this.#disks.leave(source, serial);
  }

  attachBlockDevice(device: string, writable: boolean, signal: AbortSignal): Promise<string> {
    return this.#disks.attachBlockDevice(device, writable, signal);
  }

  detachDisk(serial: string): Promise<void> {
    return this.#disks.detach(serial);
  }

  /** What it takes from the host at this moment; needs no answer of the guest. */
  async usage(): Promise<HostUsage> {
    this.#groups ??= await findGroups(this.pid);
    return readHostUsage(this.pid, this.#groups, [tapName]);
  }

  /** Ends the machine and leaves nothing of it on the host but its network namespace. Idempotent. */
  async halt(): Promise<void> {
    await this.#endMachine();
    await this.#site.vacate();
  }

  /** Idempotent; after a failure it may be tried again. */
  destroy(): Promise<void> {
    this.#destroying ??= this.#destroy().catch((error: unknown) => {
      this.#destroying = undefined;
      throw wrap(error, `destroy vm ${this.id}`);
    });
    return this.#destroying;
  }

  async #closeAgent(): Promise<void> {
    try {
      await this.agent.close();
    } catch (error) {
      this.#log.warn({ vmId: this.id }, `close guest agent: ${messageOf(error)}`);
    }
  }

  async #endMachine(): Promise<void> {
    const closed = this.#closeAgent();
    await this.#machine.stop();
    await closed;
  }

  async #destroy(): Promise<void> {
    await this.#endMachine();
    // What it undoes is found by way of the namespace.
    await this.#release?.();
    await this.#site.remove(this.#live);
  }
}
