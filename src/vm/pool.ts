import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { PoolDemand } from './pool-demand.ts';
import type { RefillGate } from './refill-gate.ts';

const firstRetryMs = 1_000;
const lastRetryMs = 60_000;

/** What a pool needs of a VM. */
export interface Parkable {
  readonly id: string;
  readonly exited: Promise<{ readonly reason: string }>;
  destroy(): Promise<void>;
}

export interface PoolOptions<V extends Parkable> {
  readonly name: string;
  readonly demand: PoolDemand;
  /** The host has no memory to spare: what nobody has asked for yet goes first. */
  readonly isShort: () => boolean;
  /** Makes a VM that is ready and parked. */
  readonly make: (signal: AbortSignal) => Promise<V>;
  /** Whether one that waits is what `make` would make now. */
  readonly isCurrent: (vm: V) => boolean;
  readonly gate: RefillGate;
  readonly log: Log;
  readonly now?: () => number;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** A pool as it is at one moment. */
export interface PoolState {
  readonly className: string;
  readonly idle: number;
  /** Those of them that are to be replaced, as other images or another network are to be held ready now. */
  readonly outdated: number;
  /** How many should wait. */
  readonly size: number;
  readonly floor: number;
  readonly ceiling: number;
  /** Claims that found a VM waiting, and that did not. */
  readonly hits: number;
  readonly misses: number;
  /** How long each has waited, the oldest first. */
  readonly agesMs: readonly number[];
}

/** Parked VMs of one class, refilled in the background. A VM that dies while it waits is replaced. */
export class Pool<V extends Parkable> {
  readonly #options: PoolOptions<V>;
  readonly #now: () => number;
  readonly #sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly #stopped = new AbortController();
  /** With the time when it was parked, the oldest first. */
  readonly #idle = new Map<V, number>();
  #hits = 0;
  #misses = 0;
  #filling: Promise<void> | undefined;

  constructor(options: PoolOptions<V>) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#sleep = options.sleep ?? ((ms, signal) => delay(ms, undefined, { signal }));
  }

  get idle(): number {
    return this.#idle.size;
  }

  /** How many should wait. */
  get size(): number {
    return this.#options.isShort() ? 0 : this.#options.demand.target;
  }

  get state(): PoolState {
    const { name, demand, isCurrent } = this.#options;
    const now = this.#now();
    return {
      className: name,
      idle: this.idle,
      outdated: [...this.#idle.keys()].filter((vm) => !isCurrent(vm)).length,
      size: this.size,
      floor: demand.floor,
      ceiling: demand.ceiling,
      hits: this.#hits,
      misses: this.#misses,
      agesMs: [...this.#idle.values()].map((since) => Math.max(0, Math.round(now - since))),
    };
  }

  start(): void {
    this.#refill();
  }

  /** The oldest VM, which is the caller's from now on. */
  take(): V | undefined {
    this.#options.demand.claimed();
    const vm = this.#next();
    if (vm) this.#hits++;
    else this.#misses++;
    this.#refill();
    return vm;
  }

  /** Another one, in place of one that was of no use. */
  replace(): V | undefined {
    const vm = this.#next();
    if (!vm) {
      this.#hits--;
      this.#misses++;
    }
    this.#refill();
    return vm;
  }

  /** Ends one of those that are too many or out of date, if there are any, and goes on to fill where there are too few. */
  async adjust(): Promise<void> {
    if (this.#isStopped()) return;
    const { isCurrent } = this.#options;
    const leaving = this.idle > this.size ? this.#next() : this.#next((vm) => !isCurrent(vm));
    if (leaving) await this.#destroy(leaving);
    this.#refill();
  }

  /** Ends the refill and all idle VMs. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#filling;
    const idle = [...this.#idle.keys()];
    this.#idle.clear();
    await Promise.all(idle.map((vm) => this.#destroy(vm)));
  }

  /** The oldest that meets the condition. */
  #next(condition: (vm: V) => boolean = () => true): V | undefined {
    const vm = this.#idle.keys().find(condition);
    if (vm) this.#idle.delete(vm);
    return vm;
  }

  #refill(): void {
    if (this.#filling || this.#isStopped() || this.idle >= this.size) return;
    this.#filling = this.#fill().finally(() => {
      this.#filling = undefined;
      // One may have been taken after the last look.
      this.#refill();
    });
  }

  /** One after the other: what runs at the same time is the gate's business, over all pools. */
  async #fill(): Promise<void> {
    const { signal } = this.#stopped;
    let retryMs = firstRetryMs;
    while (this.idle < this.size && !this.#isStopped()) {
      try {
        const made = await this.#options.gate.refilling(() => this.#options.make(signal), signal);
        await this.#admit(made);
        retryMs = firstRetryMs;
      } catch (error) {
        if (this.#isStopped()) return;
        this.#options.log.warn(
          { err: error },
          `pool of vm class ${this.#options.name}: ${messageOf(error)}; next try in ${String(retryMs / 1000)} s`,
        );
        await this.#sleep(retryMs, signal).catch(() => undefined);
        retryMs = Math.min(retryMs * 2, lastRetryMs);
      }
    }
  }

  #isStopped(): boolean {
    return this.#stopped.signal.aborted;
  }

  async #admit(vm: V): Promise<void> {
    if (this.#isStopped()) {
      await this.#destroy(vm);
      return;
    }
    this.#idle.set(vm, this.#now());
    void vm.exited.then(async (exit) => {
      if (!this.#idle.delete(vm)) return;
      this.#options.log.warn({ vmId: vm.id }, `a vm in the pool ended: ${exit.reason}`);
      await this.#destroy(vm);
      this.#refill();
    });
  }

  async #destroy(vm: V): Promise<void> {
    try {
      await vm.destroy();
    } catch (error) {
      this.#options.log.error({ vmId: vm.id, err: error }, `cannot remove a vm of the pool: ${messageOf(error)}`);
    }
  }
}
