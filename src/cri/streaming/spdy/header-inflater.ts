import { createInflate, type Inflate } from 'node:zlib';
import { dictionary } from './dictionary.ts';
import { SpdyProtocolError } from './frames.ts';

/** A few hundred times what Kubernetes sends; ends a block that was made to explode. */
const maxBlockBytes = 64 * 1024;

/** Takes header blocks out of the one zlib stream of a connection, one at a time. */
export class HeaderInflater implements Disposable {
  readonly #inflate: Inflate = createInflate({ dictionary });
  #parts: Buffer[] = [];
  #bytes = 0;
  #turn: PromiseWithResolvers<Buffer> | undefined;

  constructor() {
    this.#inflate.on('data', (part: Buffer) => {
      this.#bytes += part.length;
      if (this.#bytes > maxBlockBytes) this.#fail(new SpdyProtocolError('a header block that is too long'));
      else this.#parts.push(part);
    });
    this.#inflate.on('error', (error) => {
      this.#fail(new SpdyProtocolError(`a header block that is not compressed as it should be: ${error.message}`));
    });
  }

  #fail(error: Error): void {
    this.#turn?.reject(error);
    this.#turn = undefined;
    this.#inflate.destroy();
  }

  /** The next block; rejects with SpdyProtocolError, after which no other can be read. */
  async inflate(block: Buffer): Promise<Buffer> {
    const turn = Promise.withResolvers<Buffer>();
    this.#turn = turn;
    this.#parts = [];
    this.#bytes = 0;
    // Called once all of it has gone through: the sender flushes after each block.
    this.#inflate.write(block, (error) => {
      if (error === null || error === undefined) turn.resolve(Buffer.concat(this.#parts));
      else turn.reject(new SpdyProtocolError('a header block after the end of compression'));
    });
    return turn.promise;
  }

  [Symbol.dispose](): void {
    this.#turn = undefined;
    this.#inflate.destroy();
  }
}
