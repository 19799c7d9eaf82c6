import { setTimeout as delay } from 'node:timers/promises';

export interface RefillGateOptions {
  /** Clones made at the same time, over all classes. */
  readonly concurrency: number;
  /** A refill starts only when the last claim is over for so long: its pod is still being set up. */
  readonly quietMs: number;
  /** ... but waits no longer than this, or an endless stream of claims would never meet a filled pool again. */
  readonly maxYieldMs: number;
  readonly now?: () => number;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** Lets pools be refilled beside claims without taking the processors from them. */
export class RefillGate {
  readonly #options: RefillGateOptions;
  readonly #now: () => number;
  readonly #sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #claims = 0;
  #lastClaim = Number.NEGATIVE_INFINITY;

  constructor(options: RefillGateOptions) {
    this.#options = options;
    this.#now = options.now ?? ((): number => performance.now());
    this.#sleep = options.sleep ?? ((ms, signal) => delay(ms, undefined, { signal }));
  }

  /** Runs a claim; refills that have not started wait. */
  async claiming<T>(work: () => Promise<T>): Promise<T> {
    this.#claims++;
    try {
      return await work();
    } finally {
      this.#claims--;
      this.#lastClaim = this.#now();
    }
  }

  /** Runs a refill when its turn has come and no claim is in the way. */
  async refilling<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    if (this.#running >= this.#options.concurrency) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    try {
      await this.#quiet(signal);
      signal.throwIfAborted();
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running--;
    }
  }

  async #quiet(signal: AbortSignal): Promise<void> {
    const { quietMs, maxYieldMs } = this.#options;
    const until = this.#now() + maxYieldMs;
    for (let now = this.#now(); now < until; now = this.#now()) {
      const restMs = this.#claims > 0 ? quietMs : this.#lastClaim + quietMs - now;
      if (restMs <= 0) return;
      await this.#sleep(Math.max(1, Math.min(restMs, until - now)), signal);
    }
  }
}
