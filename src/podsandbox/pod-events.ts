import { AppError } from '../platform/errors.ts';
import type { ContainerId, SandboxId } from './ids.ts';
import type { Container, Sandbox } from './model.ts';

export type PodEventType = 'created' | 'started' | 'stopped' | 'deleted';

/** Something that has happened to a sandbox or a container, and how its pod was right afterwards. */
export interface PodEvent {
  readonly type: PodEventType;
  /** Of what it happened to: a container, or the sandbox itself. */
  readonly id: SandboxId | ContainerId;
  /** Nanoseconds since the epoch. */
  readonly at: bigint;
  readonly sandbox: Sandbox;
  readonly containers: readonly Container[];
}

export interface PodEvents {
  /**
   * All events from now on, in order, until the signal aborts. Throws `exhausted` when the reader falls
   * behind by more than what is kept for it; it has missed events then and has to look for itself.
   */
  subscribe(signal: AbortSignal): AsyncIterable<PodEvent>;
}

/** Events kept for one reader: what some hundred pods that are stopped at once make. */
const bufferedEvents = 1_000;

class Subscription {
  #waiting: PodEvent[] = [];
  #overflown = false;
  #wake = Promise.withResolvers<undefined>();

  push(event: PodEvent, limit: number): void {
    if (this.#waiting.length >= limit) {
      // Nobody is served with the rest of a list that has a hole.
      this.#waiting = [];
      this.#overflown = true;
    }
    if (!this.#overflown) this.#waiting.push(event);
    this.wake();
  }

  wake(): void {
    this.#wake.resolve(undefined);
  }

  /** What has come since the last time, in order; waits for something. */
  async take(): Promise<readonly PodEvent[]> {
    await this.#wake.promise;
    this.#wake = Promise.withResolvers();
    if (this.#overflown) throw new AppError('exhausted', 'events were lost: the reader is too slow');
    return this.#waiting.splice(0);
  }
}

/** Hands events to whoever listens. What happens while nobody does is not kept. */
export class PodEventSource implements PodEvents {
  readonly #limit: number;
  readonly #subscriptions = new Set<Subscription>();

  constructor(limit = bufferedEvents) {
    this.#limit = limit;
  }

  get subscribers(): number {
    return this.#subscriptions.size;
  }

  publish(event: PodEvent): void {
    for (const subscription of this.#subscriptions) subscription.push(event, this.#limit);
  }

  async *subscribe(signal: AbortSignal): AsyncGenerator<PodEvent, void, undefined> {
    const subscription = new Subscription();
    const wake = (): void => {
      subscription.wake();
    };
    this.#subscriptions.add(subscription);
    signal.addEventListener('abort', wake, { once: true });
    try {
      const ended = (): boolean => signal.aborted;
      while (!ended()) {
        for (const event of await subscription.take()) {
          if (ended()) return;
          yield event;
        }
      }
    } finally {
      signal.removeEventListener('abort', wake);
      this.#subscriptions.delete(subscription);
    }
  }
}
