import { setTimeout as delay } from 'node:timers/promises';
import { abortError, AppError, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { GuestConnection, GuestLink } from './guest-link.ts';
import type { Hypervisor, TemplateState } from './hypervisor.ts';
import { PodVm } from './pod-vm.ts';
import { templateKey } from './template-record.ts';
import type { TemplateStore } from './template-store.ts';
import { VmDisks } from './vm-disks.ts';
import type { VmFactory, VmOrder } from './vm-factory.ts';

/** A template that could not be made is tried again after this long; until then VMs boot cold. */
const retryAfterMs = 60_000;
/** One clone may fail for reasons of its own. */
const giveUpAfter = 3;
/** Lets the guest notice that its connection is gone and fall silent before it is frozen. */
const defaultSettleMs = 300;

/** What a class's template is at one moment; unknown until somebody has asked for it. */
export type TemplateStatus = 'ready' | 'making' | 'failed' | 'unknown';

interface Failure {
  readonly error: unknown;
  readonly at: number;
}

export interface TemplatesOptions<A extends GuestConnection> {
  readonly hypervisor: Hypervisor;
  readonly guest: GuestLink<A>;
  readonly factory: VmFactory<A>;
  readonly store: TemplateStore;
  readonly log: Log;
  readonly makeTimeoutMs: number;
  /** Ends the making of templates when the daemon stops. */
  readonly stopping: AbortSignal;
  readonly settleMs?: number;
  readonly now?: () => number;
}

/** The template of each VM class: found, or made once however many ask. */
export class Templates<A extends GuestConnection> {
  readonly #options: TemplatesOptions<A>;
  readonly #now: () => number;
  readonly #making = new Map<string, Promise<TemplateState>>();
  readonly #failed = new Map<string, Failure>();
  readonly #ready = new Set<string>();
  /** Clones that failed since the last that worked, by template. */
  readonly #barren = new Map<string, number>();

  constructor(options: TemplatesOptions<A>) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  key(order: VmOrder): string {
    const { hypervisor } = this.#options;
    return templateKey({
      guestKey: order.shape.guest.key,
      hypervisorVersion: hypervisor.version,
      arguments: hypervisor.describe('template', order.shape),
      scratchBytes: order.scratchBytes,
    });
  }

  /**
   * The template for such VMs; waits while it is being made, until the signal aborts. It is made all
   * the same then, for those who come later.
   */
  async get(order: VmOrder, signal: AbortSignal): Promise<TemplateState> {
    if (signal.aborted) throw abortError(signal, 'wait for the template');
    const making = this.#once(order);
    // Once nobody waits for it any more, its failure is told to the next one who asks.
    making.catch(() => undefined);
    const gone = Promise.withResolvers<never>();
    const giveUp = (): void => {
      gone.reject(abortError(signal, 'wait for the template'));
    };
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      return await Promise.race([making, gone.promise]);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  status(order: VmOrder): TemplateStatus {
    const key = this.key(order);
    if (this.#making.has(key)) return this.#ready.has(key) ? 'ready' : 'making';
    if (this.#failed.has(key)) return 'failed';
    return this.#ready.has(key) ? 'ready' : 'unknown';
  }

  /** Resolves when none is being made, as soon after the signal of the options as what was begun is undone. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#making.values());
  }

  #once(order: VmOrder): Promise<TemplateState> {
    const key = this.key(order);
    const running = this.#making.get(key);
    if (running) return running;
    const failure = this.#failed.get(key);
    if (failure && this.#now() - failure.at < retryAfterMs) {
      return Promise.reject(
        new AppError('unavailable', `no template: ${messageOf(failure.error)}`, { cause: failure.error }),
      );
    }
    const making = this.#findOrMake(key, order)
      .then((template) => {
        this.#failed.delete(key);
        this.#ready.add(key);
        return template;
      })
      .catch((error: unknown): never => {
        this.#failed.set(key, { error, at: this.#now() });
        this.#ready.delete(key);
        throw error;
      })
      .finally(() => this.#making.delete(key));
    this.#making.set(key, making);
    return making;
  }

  /** Deletes the templates that no class of today can use. */
  async removeStale(orders: readonly VmOrder[]): Promise<void> {
    const stale = await this.#options.store.keepOnly(new Set(orders.map((order) => this.key(order))));
    if (stale.length > 0)
      this.#options.log.info(`removed ${String(stale.length)} template(s) of other versions or settings`);
  }

  /** Tells how a clone fared: a template that none starts from any more is deleted, and made again by the next claim. */
  async cloned(order: VmOrder, succeeded: boolean): Promise<void> {
    const key = this.key(order);
    const failures = succeeded ? 0 : (this.#barren.get(key) ?? 0) + 1;
    this.#barren.set(key, failures);
    if (failures < giveUpAfter || this.#making.has(key)) return;
    this.#barren.delete(key);
    // Those who asked for the clones have warned.
    this.#options.log.info(
      `${String(giveUpAfter)} clones in a row failed: the template of vm class ${order.className} is made again`,
    );
    this.#ready.delete(key);
    await this.#options.store.remove(key);
  }

  async #findOrMake(key: string, order: VmOrder): Promise<TemplateState> {
    const { store, log } = this.#options;
    const found = await store.find(key);
    if (found) return found;
    const startedAt = this.#now();
    const template = await store.make(key, order.shape.memoryBytes, (memory, stateFile) =>
      this.#fill(order, memory, stateFile),
    );
    log.info(`made the template of vm class ${order.className} in ${String(this.#now() - startedAt)} ms`);
    return template;
  }

  /** Boots a guest in the template's memory, warms it, and freezes it. */
  async #fill(order: VmOrder, memory: { readonly path: string }, stateFile: string): Promise<void> {
    const { hypervisor, guest, factory, log, makeTimeoutMs, stopping } = this.#options;
    const signal = AbortSignal.any([stopping, AbortSignal.timeout(makeTimeoutMs)]);
    await factory.bare(
      order,
      'template',
      (site) => hypervisor.bootTemplate(site.spec(order.shape), memory, signal),
      async (machine, site) => {
        const agent = guest.connect({ data: site.folder.dataSocket, reset: site.folder.resetSocket }, site.vmId);
        try {
          const ended = machine.exited.then((exit): never => {
            throw new AppError('internal', `template of vm class ${order.className}: ${exit.reason}`);
          });
          ended.catch(() => undefined);
          const disks = VmDisks.none(machine, site.folder.disks, order.shape.slotBytes);
          const vm = new PodVm({ site, machine, agent, disks, origin: 'cold', log, live: factory.live });
          const warmed = guest.ready(agent, signal).then(() => guest.warm(vm, signal));
          await Promise.race([warmed, ended]);
        } finally {
          await agent.close();
        }
        await delay(this.#options.settleMs ?? defaultSettleMs);
        await machine.pause();
        await machine.saveState(stateFile, signal);
      },
    );
  }
}
