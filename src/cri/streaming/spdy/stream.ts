import { Duplex } from 'node:stream';
import { AppError } from '../../../platform/errors.ts';
import { resetStatus } from './frames.ts';
import type { HeaderMap } from './header-block.ts';

/** Small enough that streams take turns, large enough that heads of frames do not count. */
const maxFrameBytes = 16 * 1024;

/** What a stream uses of its connection. */
export interface StreamPort {
  /** How much may be sent now on a stream with this window. */
  allowance(streamWindow: number): number;
  /** False: the next piece should wait until `resume` is called. */
  sendData(stream: SpdyStream, data: Buffer, fin: boolean): boolean;
  /** Calls back once, when the transport has drained, or when a window has grown. */
  resume(callback: () => void): void;
  sendReply(stream: SpdyStream): void;
  sendReset(stream: SpdyStream, status: number): void;
  /** Received bytes have left the connection's memory. */
  released(stream: SpdyStream, bytes: number): void;
  forget(stream: SpdyStream): void;
}

/**
 * One stream of a SPDY connection. `end` closes this side and leaves the other open; `destroy` resets
 * the stream. Nothing may be written before `accept`. When the peer resets the stream or the
 * connection ends too early, it is destroyed with an error of the kind `cancelled`.
 */
export class SpdyStream extends Duplex {
  readonly id: number;
  /** Names in lower case. */
  readonly headers: HeaderMap;
  /** What the peer takes in before it says that it takes more. */
  sendWindow: number;
  /** What the peer may still send, and what it has earned back without having been told. */
  receiveWindow: number;
  credit = 0;
  readonly #port: StreamPort;
  readonly #received: Buffer[] = [];
  #receivedBytes = 0;
  #wanted = false;
  #peerFinished = false;
  #reset = false;

  constructor(port: StreamPort, id: number, headers: HeaderMap, window: number, sendWindow: number) {
    super({ allowHalfOpen: true, writableHighWaterMark: maxFrameBytes });
    this.#port = port;
    this.id = id;
    this.headers = headers;
    this.receiveWindow = window;
    this.sendWindow = sendWindow;
    // The session learns of it by the other events; without a listener it would end the process.
    this.on('error', () => undefined);
  }

  accept(): void {
    this.#port.sendReply(this);
  }

  /** Bytes that have come and that nobody has asked for. */
  get waitingBytes(): number {
    return this.#receivedBytes;
  }

  // ---------------------------------------------------------------- called by the connection

  receive(data: Buffer, fin: boolean): void {
    if (this.#peerFinished) {
      this.#port.released(this, data.length);
      return;
    }
    this.#peerFinished = fin;
    if (data.length > 0) {
      this.#received.push(data);
      this.#receivedBytes += data.length;
    }
    this.#deliver();
  }

  /** The peer has reset the stream, or is gone. */
  abandon(message: string): void {
    this.#reset = true;
    this.destroy(new AppError('cancelled', message));
  }

  // ---------------------------------------------------------------- called by Duplex

  #deliver(): void {
    while (this.#wanted) {
      const data = this.#received.shift();
      if (data === undefined) {
        if (this.#peerFinished) {
          this.#wanted = false;
          this.push(null);
        }
        return;
      }
      this.#receivedBytes -= data.length;
      this.#wanted = this.push(data);
      this.#port.released(this, data.length);
    }
  }

  override _read(): void {
    this.#wanted = true;
    this.#deliver();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (chunk.length === 0 || this.destroyed) {
      done();
      return;
    }
    const size = Math.min(chunk.length, maxFrameBytes, this.#port.allowance(this.sendWindow));
    const rest = chunk.subarray(size);
    const next = (): void => {
      if (rest.length === 0) done();
      else this._write(rest, _encoding, done);
    };
    if (size > 0 && this.#port.sendData(this, chunk.subarray(0, size), false)) next();
    else this.#port.resume(next);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#port.sendData(this, Buffer.alloc(0), true);
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const finished = this.#peerFinished && this.writableFinished;
    if (!finished && !this.#reset) this.#port.sendReset(this, resetStatus.cancel);
    this.#received.length = 0;
    const bytes = this.#receivedBytes;
    this.#receivedBytes = 0;
    this.#port.forget(this);
    if (bytes > 0) this.#port.released(this, bytes);
    done(error);
  }
}
