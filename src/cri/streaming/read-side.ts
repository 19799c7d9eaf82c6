import { type Duplex, Readable } from 'node:stream';

/**
 * The input of a session: what comes on a stream, without the stream's other side, whose end tells
 * the client something. Destroying it lets the client write on, into nothing.
 */
export class ReadSide extends Readable {
  readonly #source: Duplex;

  constructor(source: Duplex) {
    super();
    this.#source = source;
    source.pause();
    source.on('data', (data: Buffer) => {
      if (!this.destroyed && !this.push(data)) source.pause();
    });
    source.on('end', () => {
      this.push(null);
    });
    source.on('error', (error) => {
      this.destroy(error);
    });
    // Without a listener a client that goes away would end the process.
    this.on('error', () => undefined);
  }

  override _read(): void {
    this.#source.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#source.resume();
    done(error);
  }
}
