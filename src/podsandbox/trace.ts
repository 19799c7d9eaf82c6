import type { StepTrace } from './ports.ts';
import type { RequestTrace, TracedRequest, TraceStep } from './trace-model.ts';

/** A guard: a request has some ten steps. */
const maxSteps = 128;

/** Both in milliseconds: one that never jumps, and whole ones since the epoch. */
export interface TraceClock {
  readonly steady: () => number;
  readonly wall: () => number;
}

const realClock: TraceClock = { steady: () => performance.now(), wall: () => Date.now() };

interface OpenStep {
  readonly name: string;
  readonly startMs: number;
  /** Undefined while it goes on. */
  ms: number | undefined;
  readonly parts: OpenStep[];
}

/** Collects when each named step of one request began and how long it took. */
export class Trace implements StepTrace {
  readonly #request: TracedRequest;
  readonly #clock: TraceClock;
  readonly #startedAt: number;
  readonly #began: number;
  readonly #steps: OpenStep[] = [];
  #count = 0;
  #ms: number | undefined;

  constructor(request: TracedRequest, clock: TraceClock = realClock) {
    this.#request = request;
    this.#clock = clock;
    this.#startedAt = clock.wall();
    this.#began = clock.steady();
  }

  step<T>(name: string, work: (parts: StepTrace) => Promise<T>): Promise<T> {
    return this.#step(this.#steps, name, work);
  }

  /** A step whose begin is the request's, and which ends now. */
  reached(name: string): TraceStep {
    const step = { name, startMs: 0, ms: this.#elapsed(), parts: [] };
    if (this.#count++ < maxSteps) this.#steps.push(step);
    return { name, startMs: 0, ms: step.ms, depth: 0 };
  }

  /** The request is over. */
  end(): void {
    this.#ms ??= this.#elapsed();
  }

  get ended(): boolean {
    return this.#ms !== undefined;
  }

  /** As it is now: what still goes on ends here. */
  get result(): RequestTrace {
    return {
      request: this.#request,
      startedAt: BigInt(this.#startedAt) * 1_000_000n,
      ms: this.#ms ?? this.#elapsed(),
      steps: [...this.#flat(this.#steps, 0)],
    };
  }

  async #step<T>(siblings: OpenStep[], name: string, work: (parts: StepTrace) => Promise<T>): Promise<T> {
    const step: OpenStep = { name, startMs: this.#elapsed(), ms: undefined, parts: [] };
    if (this.#count++ < maxSteps) siblings.push(step);
    try {
      return await work({ step: (part, partWork) => this.#step(step.parts, part, partWork) });
    } finally {
      step.ms = rounded(this.#elapsed() - step.startMs);
    }
  }

  *#flat(steps: readonly OpenStep[], depth: number): Generator<TraceStep> {
    for (const { name, startMs, ms, parts } of steps) {
      yield { name, startMs, ms: ms ?? rounded(this.#elapsed() - startMs), depth };
      yield* this.#flat(parts, depth + 1);
    }
  }

  #elapsed(): number {
    return rounded(this.#clock.steady() - this.#began);
  }
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
