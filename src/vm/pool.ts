import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
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
  readonly size: number;
  /** Makes a VM that is ready and parked. */
  readonly make: (signal: AbortSignal) => Promise<V>;
  readonly gate: RefillGate;
  readonly log: Log;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** Parked VMs of one class, refilled in the background. A VM that dies while it waits is replaced. */
export class Pool<V extends Parkable> {
  readonly #options: PoolOptions<V>;
  readonly #sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly #stopped = new AbortController();
  readonly #idle = new Set<V>();
  #filling: Promise<void> | undefined;

  constructor(options: PoolOptions<V>) {
    this.#options = options;
    this.#sleep = options.sleep ?? ((ms, signal) => delay(ms, undefined, { signal }));
  }

  get idle(): number {
    return this.#idle.size;
  }

  get size(): number {
    return this.#options.size;
  }

  start(): void {
    this.#refill();
  }

  /** The oldest VM, which is the caller's from now on. */
  take(): V | undefined {
    const [vm] = this.#idle;
    if (vm) this.#idle.delete(vm);
    this.#refill();
    return vm;
  }

  /** Ends the refill and all idle VMs. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#filling;
    const idle = [...this.#idle];
    this.#idle.clear();
    await Promise.all(idle.map((vm) => this.#destroy(vm)));
  }

  #refill(): void {
    if (this.#filling || this.#isStopped() || this.#idle.size >= this.#options.size) return;
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
    while (this.#idle.size < this.#options.size && !this.#isStopped()) {
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
    this.#idle.add(vm);
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
