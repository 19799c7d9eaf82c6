import { Duplex } from 'node:stream';
import { AppError } from '../../../platform/errors.ts';

/** Clients read into buffers of this size. */
const maxMessageBytes = 32 * 1024;

/** What a channel uses of its connection. */
export interface ChannelPort {
  /** Calls back when the message has left this process, or never will. */
  send(channel: number, data: Buffer, sent: () => void): void;
  released(bytes: number): void;
}

/**
 * One channel of a WebSocket connection. The protocols know no end of a single channel, except v5
 * for those that the client writes: `end` only says that nothing more is written.
 */
export class Channel extends Duplex {
  readonly #number: number;
  readonly #port: ChannelPort;
  readonly #received: Buffer[] = [];
  #receivedBytes = 0;
  #wanted = false;
  #finished = false;

  constructor(port: ChannelPort, number: number) {
    super({ allowHalfOpen: true, writableHighWaterMark: maxMessageBytes });
    this.#port = port;
    this.#number = number;
    // The session learns of it by the other events; without a listener it would end the process.
    this.on('error', () => undefined);
  }

  receive(data: Buffer): void {
    if (this.#finished || this.destroyed) {
      this.#port.released(data.length);
      return;
    }
    this.#received.push(data);
    this.#receivedBytes += data.length;
    this.#deliver();
  }

  /** The client writes nothing more. */
  finish(): void {
    this.#finished = true;
    this.#deliver();
  }

  /** The connection is gone. */
  abandon(): void {
    this.destroy(new AppError('cancelled', 'the client is gone'));
  }

  #deliver(): void {
    while (this.#wanted) {
      const data = this.#received.shift();
      if (data === undefined) {
        if (this.#finished) {
          this.#wanted = false;
          this.push(null);
        }
        return;
      }
      this.#receivedBytes -= data.length;
      this.#wanted = this.push(data);
      this.#port.released(data.length);
    }
  }

  override _read(): void {
    this.#wanted = true;
    this.#deliver();
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const rest = chunk.subarray(maxMessageBytes);
    this.#port.send(this.#number, chunk.subarray(0, maxMessageBytes), () => {
      if (rest.length === 0 || this.destroyed) done();
      else this._write(rest, encoding, done);
    });
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const bytes = this.#receivedBytes;
    this.#received.length = 0;
    this.#receivedBytes = 0;
    if (bytes > 0) this.#port.released(bytes);
    done(error);
  }
}
