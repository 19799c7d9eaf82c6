import type { TraceStep } from './model.ts';
import type { StepTrace } from './ports.ts';

/** Collects how long each named step of one request took; steps may overlap. */
export class Trace implements StepTrace {
  readonly #steps: TraceStep[] = [];

  async step<T>(name: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await work();
    } finally {
      this.#steps.push({ name, ms: Math.round((performance.now() - start) * 100) / 100 });
    }
  }

  get steps(): readonly TraceStep[] {
    return this.#steps;
  }
}
