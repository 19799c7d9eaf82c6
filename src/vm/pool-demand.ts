export interface DemandOptions {
  /** What is kept ready however little is asked for. */
  readonly floor: number;
  /** What is kept ready at most. */
  readonly ceiling: number;
  readonly now?: () => number;
}

/** About as long as it takes to fill a pool again: claims within it find what there was at its begin. */
const burstMs = 10_000;
/** How long a burst is remembered. */
const memoryMs = 600_000;

interface Burst {
  readonly at: number;
  readonly claims: number;
}

/**
 * How many VMs a pool should hold: as many as were claimed within any ten seconds of the last ten minutes,
 * between floor and ceiling. Seldom claims are served by the floor; a burst makes the pool ready for another one
 * like it, and is forgotten when none comes.
 */
export class PoolDemand {
  readonly floor: number;
  readonly ceiling: number;
  readonly #now: () => number;
  /** Times of the claims of the last ten seconds, the last `ceiling` of them: more change nothing. */
  #recent: number[] = [];
  /** Each smaller and later than the one before: what is left when that one is forgotten. */
  #bursts: Burst[] = [];

  constructor({ floor, ceiling, now = () => performance.now() }: DemandOptions) {
    this.floor = floor;
    this.ceiling = Math.max(floor, ceiling);
    this.#now = now;
  }

  /** One was asked for, whether there was one or not. */
  claimed(): void {
    if (this.ceiling === this.floor) return;
    const at = this.#now();
    this.#recent = [...this.#recent.filter((time) => time > at - burstMs), at].slice(-this.ceiling);
    const claims = this.#recent.length;
    this.#bursts = [...this.#bursts.filter((burst) => burst.claims > claims), { at, claims }];
  }

  get target(): number {
    const since = this.#now() - memoryMs;
    this.#bursts = this.#bursts.filter(({ at }) => at > since);
    return Math.max(this.floor, this.#bursts[0]?.claims ?? 0);
  }
}
