import { AppError } from '../../platform/errors.ts';
import type { Vm, VmExit, VmLimits, VmProvider, VmUsage } from '../ports.ts';
import { FakeGuest } from './fake-guest.ts';

export class FakeVm implements Vm {
  readonly id: string;
  readonly origin = 'pool';
  podId: string | undefined;
  readonly size = { vcpus: 2, memoryBytes: 512 * 1024 ** 2 };
  readonly pid = 4711;
  readonly netns: string;
  readonly share: string;
  readonly shareTag = 'share';
  readonly agent = new FakeGuest();
  readonly disks = new Map<string, string>();
  /** Disks that are attached for nobody yet, by what they hold. */
  readonly spare = new Map<string, string>();
  failNextDestroy = false;
  halted = false;
  destroyed = false;
  cgroupParent: string | undefined;
  readonly limits: VmLimits[] = [];
  readonly #exited = Promise.withResolvers<VmExit>();
  readonly exited = this.#exited.promise;
  #serial = 0;

  constructor(id: string, share: string) {
    this.id = id;
    this.share = share;
    this.netns = `/run/netns/kelyfos-${id}`;
  }

  joinCgroup(parent: string): Promise<void> {
    this.cgroupParent = parent;
    return parent === '/refused'
      ? Promise.reject(new AppError('invalid', 'cgroup refused, as told'))
      : Promise.resolve();
  }

  limit(limits: VmLimits): Promise<void> {
    this.limits.push(limits);
    return Promise.resolve();
  }

  attachDisk(source: string): Promise<string> {
    const spare = this.spare.get(source);
    if (spare !== undefined) {
      this.spare.delete(source);
      return Promise.resolve(spare);
    }
    const serial = `slot${String(this.#serial)}`;
    this.#serial += 1;
    this.disks.set(serial, source);
    return Promise.resolve(serial);
  }

  attachBlockDevice(device: string, writable: boolean): Promise<string> {
    return this.attachDisk(`${device} ${writable ? 'rw' : 'ro'}`);
  }

  detachDisk(serial: string): Promise<void> {
    if (this.agent.kept.has(serial))
      return Promise.reject(new Error(`the guest has ${serial}, which is to be detached`));
    this.disks.delete(serial);
    return Promise.resolve();
  }

  usage(): Promise<VmUsage> {
    if (this.destroyed) return Promise.reject(new AppError('internal', `virtual machine ${this.id} is gone`));
    return Promise.resolve({
      at: BigInt(Date.now()) * 1_000_000n,
      cpuNs: 7n,
      memory: undefined,
      pressure: { cpu: undefined, memory: undefined, io: undefined },
      interfaces: [],
    });
  }

  die(reason: string): void {
    this.agent.loseConnection();
    this.destroyed = true;
    this.#exited.resolve({ reason, at: new Date(0) });
  }

  halt(): Promise<void> {
    this.agent.loseConnection();
    this.halted = true;
    return Promise.resolve();
  }

  destroy(): Promise<void> {
    if (this.failNextDestroy) {
      this.failNextDestroy = false;
      return Promise.reject(new AppError('internal', `virtual machine ${this.id} cannot be ended, as told`));
    }
    this.die('stopped');
    return Promise.resolve();
  }
}

/** VMs that survive the daemon: hand the same provider to the next one. */
export class FakeVms implements VmProvider {
  readonly all: FakeVm[] = [];
  failNextClaim = false;
  /** Sees each machine before it is handed out. */
  onClaim: (vm: FakeVm) => void = () => undefined;
  readonly #share: string;

  constructor(share: string) {
    this.#share = share;
  }

  get alive(): readonly FakeVm[] {
    return this.all.filter(({ destroyed }) => !destroyed);
  }

  claim: VmProvider['claim'] = () => {
    if (this.failNextClaim) {
      this.failNextClaim = false;
      return Promise.reject(new AppError('internal', 'claim fails as told'));
    }
    const vm = new FakeVm(this.all.length.toString(16).padStart(16, '0'), this.#share);
    this.all.push(vm);
    this.onClaim(vm);
    return Promise.resolve(vm);
  };

  adopt(vmId: string): Promise<Vm | undefined> {
    return Promise.resolve(this.alive.find(({ id }) => id === vmId));
  }

  async sweep(owned: ReadonlySet<string>): Promise<readonly string[]> {
    const orphans = this.alive.filter(({ id }) => !owned.has(id));
    for (const vm of orphans) await vm.destroy();
    return orphans.map(({ id }) => id);
  }
}
