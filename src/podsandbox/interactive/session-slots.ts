import { abortError, AppError } from '../../platform/errors.ts';
import type { SandboxId } from '../ids.ts';

/**
 * Of the 256 streams that a guest's connection has. The rest is for the outputs of containers, and for
 * calls: without it a client with many idle connections would keep probes and statistics waiting.
 */
const defaultSlots = 192;

interface Pod {
  taken: number;
  readonly waiting: Set<() => void>;
}

/** Bounds what clients may have open with one pod at a time: commands, attached clients, forwarded connections. */
export class SessionSlots {
  readonly #pods = new Map<SandboxId, Pod>();
  readonly #slots: number;

  constructor(slots = defaultSlots) {
    this.#slots = slots;
  }

  /** Held until disposed; `exhausted` when there is none left. */
  take(sandboxId: SandboxId): Disposable {
    const pod = this.#pods.get(sandboxId) ?? { taken: 0, waiting: new Set() };
    if (pod.taken >= this.#slots) {
      throw new AppError(
        'exhausted',
        `pod sandbox "${sandboxId}" has ${String(this.#slots)} streaming sessions already`,
      );
    }
    this.#pods.set(sandboxId, pod);
    pod.taken += 1;
    return {
      [Symbol.dispose]: () => {
        pod.taken -= 1;
        const [next] = pod.waiting;
        if (next !== undefined) next();
        else if (pod.taken === 0) this.#pods.delete(sandboxId);
      },
    };
  }

  /** The same for who can wait for one to become free, in order; rejects when the signal aborts first. */
  async wait(sandboxId: SandboxId, signal: AbortSignal): Promise<Disposable> {
    for (;;) {
      const pod = this.#pods.get(sandboxId);
      if (pod === undefined || pod.taken < this.#slots) return this.take(sandboxId);
      const turn = Promise.withResolvers<undefined>();
      const onTurn = (): void => {
        pod.waiting.delete(onTurn);
        turn.resolve(undefined);
      };
      const onAbort = (): void => {
        turn.reject(abortError(signal, `pod sandbox "${sandboxId}": wait for another streaming session to end`));
      };
      pod.waiting.add(onTurn);
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      try {
        await turn.promise;
      } finally {
        pod.waiting.delete(onTurn);
        signal.removeEventListener('abort', onAbort);
      }
    }
  }
}
