import { CleanupStack } from '../platform/cleanup-stack.ts';
import { abortError, wrap } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { GuestConnection, GuestLink } from './guest-link.ts';
import type { Hypervisor, Machine, MachineShape, TemplateState } from './hypervisor.ts';
import { PodVm, type VmOrigin } from './pod-vm.ts';
import { VmDisks } from './vm-disks.ts';
import { type StepTrace, untraced } from './step-trace.ts';
import type { VmRecord } from './vm-folder.ts';
import { type SitePurpose, type SiteServices, VmSite } from './vm-site.ts';

export interface VmFactoryOptions<A extends GuestConnection> {
  readonly hypervisor: Hypervisor;
  readonly guest: GuestLink<A>;
  readonly site: SiteServices;
  readonly log: Log;
}

/** What is to be made. */
export interface VmOrder {
  readonly className: string;
  readonly shape: MachineShape;
  readonly scratchBytes: number;
}

type Start = (site: VmSite) => Promise<Machine>;

/** Makes VMs whose agent has answered; all of a VM or nothing. */
export class VmFactory<A extends GuestConnection> {
  /** Ids of the VMs that exist or are being made: the sweep leaves them alone. */
  readonly live = new Set<string>();
  readonly #hypervisor: Hypervisor;
  readonly #guest: GuestLink<A>;
  readonly #site: SiteServices;
  readonly #log: Log;

  constructor(options: VmFactoryOptions<A>) {
    this.#hypervisor = options.hypervisor;
    this.#guest = options.guest;
    this.#site = options.site;
    this.#log = options.log;
  }

  boot(order: VmOrder, signal: AbortSignal, trace: StepTrace = untraced): Promise<PodVm<A>> {
    return this.#make(order, 'cold', signal, trace, (site) => this.#hypervisor.boot(site.spec(order.shape), signal));
  }

  clone(order: VmOrder, template: TemplateState, signal: AbortSignal, trace: StepTrace = untraced): Promise<PodVm<A>> {
    return this.#make(order, 'clone', signal, trace, (site) =>
      this.#hypervisor.restore(site.spec(order.shape), template, signal),
    );
  }

  /** A machine without a claim to be a pod's: the caller drives and removes it. */
  async bare(
    order: VmOrder,
    origin: VmRecord['origin'],
    start: (site: VmSite) => Promise<Machine>,
    use: (machine: Machine, site: VmSite) => Promise<void>,
  ): Promise<void> {
    const undo = new CleanupStack();
    const site = await VmSite.prepare(this.#site, purposeOf(order, origin), this.live);
    undo.defer('site', () => site.remove(this.live));
    try {
      const machine = await start(site);
      undo.defer('machine', () => machine.stop());
      await site.recordProcess(machine.process);
      await use(machine, site);
    } catch (error) {
      await undo.unwind();
      throw error;
    }
    await undo.unwind();
  }

  /** A VM of an earlier daemon whose machine still runs. Its agent connects in the background. */
  async adopted(site: VmSite, machine: Machine, origin: VmOrigin): Promise<PodVm<A>> {
    const disks = await VmDisks.of(machine, site.folder.disks, site.record.slotBytes);
    return this.#vm(site, machine, disks, origin, this.#connect(site));
  }

  async #make(
    order: VmOrder,
    origin: VmOrigin & VmRecord['origin'],
    signal: AbortSignal,
    trace: StepTrace,
    start: Start,
  ): Promise<PodVm<A>> {
    if (signal.aborted) throw abortError(signal, `make a vm of class ${order.className}`);
    const undo = new CleanupStack();
    const site = await trace.step('vm.site', (parts) =>
      VmSite.prepare(this.#site, purposeOf(order, origin), this.live, parts),
    );
    undo.defer('site', () => site.remove(this.live));
    try {
      const machine = await trace.step('vm.qemu', () => start(site));
      undo.defer('machine', () => machine.stop());
      const agent = this.#connect(site);
      undo.defer('agent', () => agent.close());
      // Connected before a clone's guest runs: its first act is then to find the port open. News of a
      // host that come while the guest is settling get lost at times.
      const parts = await Promise.allSettled([
        site.recordProcess(machine.process),
        (origin === 'clone' ? machine.resume() : Promise.resolve()).then(() =>
          trace.step('vm.guest', () => this.#answer(site, machine, origin, agent, signal)),
        ),
      ]);
      for (const part of parts) if (part.status === 'rejected') throw part.reason;
      undo.commit();
      return this.#vm(site, machine, VmDisks.none(machine, site.folder.disks, order.shape.slotBytes), origin, agent);
    } catch (error) {
      try {
        await undo.unwind();
      } catch (left) {
        this.#log.error({ vmId: site.vmId, err: left }, 'a vm that failed to start left something behind');
      }
      throw wrap(error, `${origin === 'cold' ? 'boot' : 'clone'} vm ${site.vmId}`);
    }
  }

  /** Waits for the guest, but not for one whose QEMU has ended. */
  async #answer(site: VmSite, machine: Machine, origin: VmOrigin, agent: A, signal: AbortSignal): Promise<void> {
    const gone = new AbortController();
    const exited = machine.exited.then((exit): never => {
      gone.abort();
      throw new Error(exit.reason);
    });
    exited.catch(() => undefined);
    try {
      const within = AbortSignal.any([signal, gone.signal]);
      const answered = origin === 'clone' ? this.#guest.awake(agent, within) : this.#guest.ready(agent, within);
      await Promise.race([answered, exited]);
    } catch (error) {
      throw wrap(error, `wait for the guest of vm ${site.vmId}`, 'unavailable');
    }
  }

  #connect(site: VmSite): A {
    return this.#guest.connect({ data: site.folder.dataSocket, reset: site.folder.resetSocket }, site.vmId);
  }

  #vm(site: VmSite, machine: Machine, disks: VmDisks, origin: VmOrigin, agent: A): PodVm<A> {
    return new PodVm({ site, machine, agent, disks, origin, log: this.#log, live: this.live });
  }
}

function purposeOf({ className, scratchBytes, shape }: VmOrder, origin: VmRecord['origin']): SitePurpose {
  const { vcpus, memoryBytes, slotBytes } = shape;
  return { className, vcpus, memoryBytes, origin, scratchBytes, slotBytes };
}
