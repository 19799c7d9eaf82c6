import { abortError } from './errors.ts';

interface Waiting {
  readonly admit: () => void;
}

export interface AdmissionState {
  /** So many at the same time. */
  readonly limit: number;
  readonly running: number;
  readonly waiting: number;
}

/** Lets so many work at the same time, in the order in which they came. Whoever ends lets exactly one in. */
export class Admission {
  readonly #limit: number;
  readonly #queue = new Set<Waiting>();
  #running = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get state(): AdmissionState {
    return { limit: this.#limit, running: this.#running, waiting: this.#queue.size };
  }

  /** Waits for a place, which the caller gives back with the function it gets. Who gives up leaves the queue. */
  async enter(doing: string, signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) throw abortError(signal, doing);
    if (this.#running >= this.#limit || this.#queue.size > 0) await this.#turn(doing, signal);
    else this.#running += 1;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#leave();
    };
  }

  async #turn(doing: string, signal: AbortSignal): Promise<void> {
    const turn = Promise.withResolvers<undefined>();
    const waiting: Waiting = {
      admit: () => {
        turn.resolve(undefined);
      },
    };
    const giveUp = (): void => {
      // Once admitted, the place is this caller's, and the abort is noticed with it.
      if (this.#queue.delete(waiting)) turn.reject(abortError(signal, doing));
    };
    this.#queue.add(waiting);
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      await turn.promise;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  /** The place goes to the next one without ever being free: nobody can push in. */
  #leave(): void {
    const [next] = this.#queue;
    if (next === undefined) {
      this.#running -= 1;
      return;
    }
    this.#queue.delete(next);
    next.admit();
  }
}
