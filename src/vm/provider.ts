import { messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { terminate } from '../platform/processes.ts';
import type { GuestConnection, GuestLink } from './guest-link.ts';
import type { GuestImage } from './guest-image.ts';
import type { Hypervisor } from './hypervisor.ts';
import type { MemoryWatch } from './memory-watch.ts';
import { Pool, type PoolState } from './pool.ts';
import { PoolDemand } from './pool-demand.ts';
import type { PodVm } from './pod-vm.ts';
import type { Accelerator } from './qemu/devices/accelerator.ts';
import { RefillGate } from './refill-gate.ts';
import type { Templates, TemplateStatus } from './templates.ts';
import { oversize, type VmClass, type VmClasses, type VmSize } from './vm-class.ts';
import type { VmFactory, VmOrder } from './vm-factory.ts';
import { VmFolder, type VmRecord } from './vm-folder.ts';
import { type StepTrace, untraced } from './step-trace.ts';
import { type SiteServices, VmSite } from './vm-site.ts';

const refill = { concurrency: 1, quietMs: 1_000, maxYieldMs: 10_000 };
/** How often a pooled clone goes through a dummy claim: the second still gains, a third does not. */
const rehearsals = 2;
const killGraceMs = 500;
/**
 * A claim waits so long for a template that is being made, then it boots a VM: not sooner, because a boot
 * takes about as long as what is left of the making, and each boot beside it makes it slower.
 */
const defaultPatienceMs = 20_000;
/** How often pools are compared with what they should hold; when one is too big it loses one VM each time. */
const adjustMs = 2_000;

export interface VmRequest extends VmSize {
  readonly className: string;
}

export interface ProviderOptions<A extends GuestConnection> {
  readonly classes: VmClasses;
  readonly guestImage: GuestImage;
  readonly accelerator: Accelerator;
  readonly hypervisor: Hypervisor;
  readonly guest: GuestLink<A>;
  readonly factory: VmFactory<A>;
  readonly templates: Templates<A>;
  readonly site: SiteServices;
  readonly memory: MemoryWatch;
  readonly log: Log;
  /** Size of every image file. */
  readonly imageBytes: number;
  /** For a whole boot of a guest. */
  readonly bootTimeoutMs: number;
  readonly templatePatienceMs?: number;
}

/** How the VMs of one class are had. */
export interface ClassState extends PoolState {
  readonly template: TemplateStatus;
}

/** Gives VMs to sandboxes: from the pool, else as a clone, else by booting one. */
export class QemuVmProvider<A extends GuestConnection> {
  readonly #options: ProviderOptions<A>;
  readonly #log: Log;
  readonly #gate = new RefillGate(refill);
  readonly #pools: ReadonlyMap<string, Pool<PodVm<A>>>;
  /** Classes whose last clone failed: told once, not with every pod. */
  readonly #withoutClones = new Set<string>();
  readonly #stopped = new AbortController();
  #preparing: Promise<void> | undefined;
  #adjusting: NodeJS.Timeout | undefined;
  #adjustment: Promise<void> | undefined;

  constructor(options: ProviderOptions<A>) {
    this.#options = options;
    this.#log = options.log;
    this.#pools = new Map(
      options.classes
        .all()
        .filter((vmClass) => vmClass.template)
        .map((vmClass) => [vmClass.name, this.#pool(vmClass)]),
    );
  }

  /** Removes the templates of other versions and begins to fill the pools. Call it once recovery is done. */
  async start(): Promise<void> {
    const { classes, templates } = this.#options;
    await templates.removeStale(
      classes
        .all()
        .filter((vmClass) => vmClass.template)
        .map((vmClass) => this.#order(vmClass)),
    );
    await this.#options.memory.look();
    for (const pool of this.#pools.values()) pool.start();
    this.#adjusting = setInterval(() => void this.adjustPools(), adjustMs).unref();
    this.#preparing = this.#prepareTemplates();
  }

  /** One after the other, beside claims; those for pools are there already or being made. */
  async #prepareTemplates(): Promise<void> {
    const { classes, templates } = this.#options;
    const { signal } = this.#stopped;
    for (const vmClass of classes.all().filter(({ template }) => template)) {
      try {
        await this.#gate.refilling(() => templates.get(this.#order(vmClass), signal), signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#log.warn({ err: error }, `vm class ${vmClass.name} has no template yet: ${messageOf(error)}`);
      }
    }
  }

  /** Holds pools against demand and what memory the host has left; also done from time to time without being asked. */
  adjustPools(): Promise<void> {
    this.#adjustment ??= this.#adjustPools().finally(() => {
      this.#adjustment = undefined;
    });
    return this.#adjustment;
  }

  async #adjustPools(): Promise<void> {
    await this.#options.memory.look();
    for (const pool of this.#pools.values()) await pool.adjust();
  }

  /** Ends what waits in the pools. VMs of sandboxes and templates stay for the next daemon. */
  async stop(): Promise<void> {
    clearInterval(this.#adjusting);
    this.#stopped.abort();
    await this.#adjustment;
    await Promise.all([...this.#pools.values()].map((pool) => pool.stop()));
    await this.#preparing;
    await this.#options.templates.settled();
  }

  /** Per class with a template: VMs that wait, how many should, and how claims have fared. */
  pools(): readonly ClassState[] {
    const { classes, templates } = this.#options;
    return [...this.#pools].map(([name, { state }]) => ({
      ...state,
      template: templates.status(this.#order(classes.get(name))),
    }));
  }

  /** Why pools are kept empty, if they are. */
  get memoryShortage(): string | undefined {
    return this.#options.memory.shortage;
  }

  claim(request: VmRequest, trace: StepTrace, signal: AbortSignal): Promise<PodVm<A>> {
    return this.#gate.claiming(async () => {
      const vmClass = this.#options.classes.get(request.className);
      const bigger = oversize(vmClass, request);
      if (bigger) {
        this.#log.info(
          `a pod asks for more than vm class ${vmClass.name} has: booting a vm of ${String(bigger.vcpus)} vCPUs and ${String(bigger.memoryBytes / 1024 ** 2)} MiB`,
        );
        return this.#boot({ ...vmClass, ...bigger }, trace, signal);
      }
      if (!vmClass.template) return this.#boot(vmClass, trace, signal);
      return (
        (await this.#pooled(vmClass, trace)) ??
        (await this.#cloned(vmClass, trace, signal)) ??
        (await this.#boot(vmClass, trace, signal))
      );
    });
  }

  /** The VM of an earlier daemon, or undefined when it is gone; what is left of it is then removed. */
  async adopt(vmId: string, beforeRemoval?: () => Promise<void>): Promise<PodVm<A> | undefined> {
    const { factory, hypervisor, site: services } = this.#options;
    const folder = new VmFolder(services.folders, vmId);
    const record = await this.#record(folder);
    if (record?.process) {
      factory.live.add(vmId);
      try {
        const machine = await hypervisor.adopt(
          record.process,
          folder,
          AbortSignal.timeout(this.#options.bootTimeoutMs),
        );
        if (machine) {
          const site = VmSite.found(services, folder, record);
          return await factory.adopted(site, machine, record.origin === 'clone' ? 'clone' : 'cold');
        }
      } catch (error) {
        this.#log.error({ vmId, err: error }, `vm ${vmId} cannot be adopted and is ended: ${messageOf(error)}`);
      }
      factory.live.delete(vmId);
    }
    await beforeRemoval?.();
    await this.#remove(folder, record);
    return undefined;
  }

  /** Deletes everything of VMs that neither `owned` nor this daemon has; ids of what was deleted. */
  async sweep(owned: ReadonlySet<string>): Promise<readonly string[]> {
    const { site: services, factory } = this.#options;
    // Not by cgroup: other daemons of this host have theirs in the same parent. The folder is made first and goes last.
    const found = await Promise.all([VmFolder.list(services.folders), services.netns.list()]);
    const orphans = [...new Set(found.flat())].filter((vmId) => !owned.has(vmId) && !factory.live.has(vmId));
    const removed: string[] = [];
    for (const vmId of orphans) {
      const folder = new VmFolder(services.folders, vmId);
      try {
        await this.#remove(folder, await this.#record(folder));
        removed.push(vmId);
      } catch (error) {
        this.#log.error({ vmId, err: error }, `cannot remove what is left of vm ${vmId}: ${messageOf(error)}`);
      }
    }
    return removed;
  }

  async #pooled(vmClass: VmClass, trace: StepTrace): Promise<PodVm<A> | undefined> {
    const pool = this.#pools.get(vmClass.name);
    for (let vm = pool?.take(); vm; vm = pool?.replace()) {
      const taken = vm;
      try {
        await trace.step('vm.resume', () => taken.unpark());
        return taken;
      } catch (error) {
        this.#log.warn({ vmId: taken.id }, `a vm of the pool cannot be resumed: ${messageOf(error)}`);
        await taken.destroy().catch((left: unknown) => {
          this.#log.error({ vmId: taken.id, err: left }, `cannot remove a vm of the pool: ${messageOf(left)}`);
        });
      }
    }
    return undefined;
  }

  async #cloned(vmClass: VmClass, trace: StepTrace, signal: AbortSignal): Promise<PodVm<A> | undefined> {
    const { name } = vmClass;
    try {
      const vm = await trace.step('vm.clone', (parts) => this.#clone(vmClass, parts, signal, this.#patience(signal)));
      if (this.#withoutClones.delete(name)) this.#log.info(`vms of class ${name} are clones again`);
      return vm;
    } catch (error) {
      if (signal.aborted) throw error;
      const level = this.#withoutClones.has(name) ? 'info' : 'warn';
      this.#withoutClones.add(name);
      this.#log[level]({ err: error }, `no clone for vm class ${name}, booting a vm instead: ${messageOf(error)}`);
      return undefined;
    }
  }

  #patience(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([signal, AbortSignal.timeout(this.#options.templatePatienceMs ?? defaultPatienceMs)]);
  }

  async #clone(
    vmClass: VmClass,
    trace: StepTrace,
    signal: AbortSignal,
    patience: AbortSignal = signal,
  ): Promise<PodVm<A>> {
    const { factory, templates, bootTimeoutMs } = this.#options;
    const order = this.#order(vmClass);
    const template = await trace.step('vm.template', () => templates.get(order, patience));
    signal.throwIfAborted();
    try {
      const within = AbortSignal.any([signal, AbortSignal.timeout(bootTimeoutMs)]);
      const vm = await factory.clone(order, template, within, trace);
      await templates.cloned(order, true);
      return vm;
    } catch (error) {
      if (!signal.aborted) await templates.cloned(order, false);
      throw error;
    }
  }

  #boot(vmClass: VmClass, trace: StepTrace, signal: AbortSignal): Promise<PodVm<A>> {
    const within = AbortSignal.any([signal, AbortSignal.timeout(this.#options.bootTimeoutMs)]);
    return trace.step('vm.boot', (parts) => this.#options.factory.boot(this.#order(vmClass), within, parts));
  }

  #pool(vmClass: VmClass): Pool<PodVm<A>> {
    const { guest, memory } = this.#options;
    /** What was tried with each; an image that cannot be run is not tried again and again. */
    const tried = new WeakMap<PodVm<A>, { readonly images: readonly string[]; readonly network: string }>();
    return new Pool({
      name: vmClass.name,
      demand: new PoolDemand({ floor: vmClass.poolSize, ceiling: vmClass.poolMax }),
      isShort: () => memory.shortage !== undefined,
      gate: this.#gate,
      log: this.#log,
      make: async (signal) => {
        const vm = await this.#clone(vmClass, untraced, signal);
        try {
          const within = AbortSignal.any([signal, AbortSignal.timeout(this.#options.bootTimeoutMs)]);
          for (let run = 0; vmClass.rehearse && run < rehearsals; run++) await guest.rehearse(vm, within);
          const images = guest.imagesHere(vmClass.warmImages);
          await guest.warmImages(vm, images, within);
          await vm.park();
          const network = guest.networkAhead() ?? '';
          if (network !== '') await this.#attachNetwork(vm, within);
          tried.set(vm, { images, network });
        } catch (error) {
          await vm.destroy();
          throw error;
        }
        return vm;
      },
      isCurrent: (vm) => {
        const { images, network } = tried.get(vm) ?? { images: [], network: '' };
        const networkNow = guest.networkAhead() ?? network;
        return network === networkNow && guest.imagesHere(vmClass.warmImages).every((id) => images.includes(id));
      },
    });
  }

  /** Without it the pod's network is made when the pod is, with the same id, which then removes what is left of this. */
  async #attachNetwork(vm: PodVm<A>, signal: AbortSignal): Promise<void> {
    const { guest } = this.#options;
    const podId = guest.newPodId();
    vm.reserve(podId, () => guest.detachNetwork(podId, vm));
    try {
      await guest.attachNetwork(podId, vm, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#log.warn({ vmId: vm.id, err: error }, `a vm of the pool has no network yet: ${messageOf(error)}`);
    }
  }

  #order(vmClass: VmClass): VmOrder {
    return {
      className: vmClass.name,
      scratchBytes: vmClass.scratchBytes,
      shape: {
        accelerator: this.#options.accelerator,
        vcpus: vmClass.vcpus,
        memoryBytes: vmClass.memoryBytes,
        translationBytes: vmClass.translationBytes,
        slotBytes: this.#options.imageBytes,
        extraArguments: vmClass.qemuArguments,
        guest: this.#options.guestImage,
      },
    };
  }

  /** A damaged record must not keep the rest of a VM from being removed. */
  async #record(folder: VmFolder): Promise<VmRecord | undefined> {
    try {
      return await folder.readRecord();
    } catch (error) {
      this.#log.warn({ vmId: folder.vmId }, messageOf(error));
      return undefined;
    }
  }

  async #remove(folder: VmFolder, record: VmRecord | undefined): Promise<void> {
    const { site: services } = this.#options;
    if (record?.process) await terminate(record.process, killGraceMs);
    await services.cgroups.kill(folder.vmId, record?.cgroup);
    await services.cgroups.remove(folder.vmId, record?.cgroup);
    await services.netns.remove(folder.vmId);
    await folder.remove();
    if (record) services.uids.release(record.uid);
  }
}
