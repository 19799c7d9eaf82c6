import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '../../platform/errors.ts';

export type OutputChannel = 'stdout' | 'stderr';

export interface TappedOutput {
  readonly channel: OutputChannel;
  readonly data: Uint8Array;
}

/** Where a container's output can be had. */
export interface OutputTaps {
  /** Ended at once when there will be no more output. */
  tap(tap: OutputTap): void;
  untap(tap: OutputTap): void;
}

export interface OutputTapOptions {
  /** What goes to other channels is not kept. */
  readonly channels: ReadonlySet<OutputChannel>;
  /** Past this much that the client has not taken, the container's output is read no further. */
  readonly maxBytes?: number;
  /** How long the container may wait for a client that takes nothing at all. */
  readonly patienceMs?: number;
}

const defaultMaxBytes = 1024 * 1024;
const defaultPatienceMs = 10_000;

/**
 * The output of a container for one attached client, from when the tap was made: all of it, in order.
 * A slow client slows the container as a slow terminal does; one that takes nothing for a while loses
 * its tap, so that it cannot hold up the container's log.
 */
export class OutputTap implements AsyncIterable<TappedOutput> {
  readonly #options: OutputTapOptions;
  readonly #queue: TappedOutput[] = [];
  #bytes = 0;
  #taken = 0;
  #end: { readonly error?: AppError } | undefined;
  /** Resolved at the next change, whichever. */
  #change = Promise.withResolvers<undefined>();

  constructor(options: OutputTapOptions) {
    this.#options = options;
  }

  push(output: TappedOutput): void {
    if (this.#end !== undefined || output.data.length === 0 || !this.#options.channels.has(output.channel)) return;
    this.#queue.push(output);
    this.#bytes += output.data.length;
    this.#changed();
  }

  /** Nothing more comes; what is there can still be read. */
  end(): void {
    this.#end ??= {};
    this.#changed();
  }

  /** The reader gets the error, at once. */
  fail(error: AppError): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    this.#queue.length = 0;
    this.#bytes = 0;
    this.#changed();
  }

  get isFull(): boolean {
    const { maxBytes = defaultMaxBytes } = this.#options;
    return this.#end === undefined && this.#bytes >= maxBytes;
  }

  /** Waits while it is full; fails it when its reader takes nothing for too long. Ends early with the signal. */
  async room(signal: AbortSignal): Promise<void> {
    const { patienceMs = defaultPatienceMs } = this.#options;
    while (this.isFull && !signal.aborted) {
      const taken = this.#taken;
      const waiting = new AbortController();
      const patience = delay(patienceMs, 'passed' as const, {
        signal: AbortSignal.any([signal, waiting.signal]),
      }).catch(() => undefined);
      const first = await Promise.race([this.#change.promise, patience]);
      waiting.abort();
      if (first === 'passed' && taken === this.#taken) {
        const message = `the client took nothing for ${String(patienceMs / 1000)} s while ${String(this.#bytes)} bytes waited for it`;
        this.fail(new AppError('exhausted', message));
      }
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TappedOutput, void, undefined> {
    for (;;) {
      const next = this.#queue.shift();
      if (next !== undefined) {
        this.#bytes -= next.data.length;
        this.#taken += next.data.length;
        this.#changed();
        yield next;
      } else if (this.#end !== undefined) {
        if (this.#end.error !== undefined) throw this.#end.error;
        return;
      } else {
        await this.#change.promise;
      }
    }
  }

  #changed(): void {
    const { resolve } = this.#change;
    this.#change = Promise.withResolvers();
    resolve(undefined);
  }
}
