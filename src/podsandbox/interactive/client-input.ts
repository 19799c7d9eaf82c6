import type { Readable } from 'node:stream';
import type { TerminalSize } from '../model.ts';

/** One thing that a client says. */
export type InputPart =
  | { readonly kind: 'data'; readonly data: Uint8Array }
  /** It will send no more data. */
  | { readonly kind: 'eof' }
  | { readonly kind: 'size'; readonly size: TerminalSize };

export interface ClientInputOptions {
  readonly data: Readable | undefined;
  readonly sizes?: AsyncIterable<TerminalSize> | undefined;
}

/**
 * What a client says, as it is asked for: nothing is read ahead of the guest, which is how a program
 * that reads slowly slows its client. Sizes of the terminal overtake data, and of several only the
 * newest counts. Ends after the end of the data when there can be no sizes, else by `end`; a client
 * that was cut off has no end of data.
 */
export class ClientInput implements AsyncIterable<InputPart> {
  readonly #data: Readable | undefined;
  #sizes: AsyncIterable<TerminalSize> | undefined;
  #size: TerminalSize | undefined;
  #eofSaid = false;
  #ended = false;
  #news = Promise.withResolvers<undefined>();
  readonly #tell = (): void => {
    this.#news.resolve(undefined);
  };

  constructor({ data, sizes }: ClientInputOptions) {
    this.#data = data;
    this.#sizes = sizes;
    if (sizes !== undefined) void this.#follow(sizes);
    // "end" does not come before the data was read.
    for (const event of ['readable', 'end'] as const) data?.on(event, this.#tell);
  }

  /** True when the client has said that it sends no more data, and all of it has been handed out. */
  get eof(): boolean {
    return this.#eofSaid;
  }

  /** The guest takes no more. What the client still sends is left to the owner of the stream. */
  end(): void {
    this.#ended = true;
    for (const event of ['readable', 'end'] as const) this.#data?.off(event, this.#tell);
    this.#tell();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<InputPart, void, undefined> {
    while (!this.#ended) {
      this.#news = Promise.withResolvers();
      const part = this.#next();
      if (part !== undefined) yield part;
      else if (this.#sizes === undefined && (this.#data === undefined || this.#eofSaid)) return;
      else await this.#news.promise;
    }
  }

  #next(): InputPart | undefined {
    const size = this.#size;
    if (size !== undefined) {
      this.#size = undefined;
      return { kind: 'size', size };
    }
    if (this.#data === undefined || this.#eofSaid) return undefined;
    const data = this.#data.read() as Buffer | null;
    if (data !== null) return { kind: 'data', data };
    if (!this.#data.readableEnded) return undefined;
    this.#eofSaid = true;
    return { kind: 'eof' };
  }

  /** Whoever makes the sizes reports what is wrong with them; they only end. */
  async #follow(sizes: AsyncIterable<TerminalSize>): Promise<void> {
    for await (const size of sizes) {
      if (this.#ended) return;
      this.#size = size;
      this.#tell();
    }
    this.#sizes = undefined;
    this.#tell();
  }
}
