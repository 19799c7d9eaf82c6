import { once } from 'node:events';
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { framed, MessageReader } from './grpc-messages.ts';

/** What calls are made on. */
export interface GrpcConnection {
  request(headers: OutgoingHttpHeaders): ClientHttp2Stream;
  /** Why there is no connection any more. */
  readonly lossReason: string | undefined;
}

export interface GrpcCallOptions {
  readonly path: string;
  readonly maxMessageBytes: number;
  readonly signal: AbortSignal | undefined;
}

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, "HTTP2 Transport Mapping". */
const resets = new Map<number, Code>([
  [constants.NGHTTP2_REFUSED_STREAM, Code.Unavailable],
  [constants.NGHTTP2_CANCEL, Code.Canceled],
  [constants.NGHTTP2_ENHANCE_YOUR_CALM, Code.ResourceExhausted],
  [constants.NGHTTP2_INADEQUATE_SECURITY, Code.PermissionDenied],
]);

/** One call: messages both ways, and the status at its end. */
export class GrpcCall {
  readonly #connection: GrpcConnection;
  readonly #signal: AbortSignal | undefined;
  readonly #stream: ClientHttp2Stream;
  readonly #reader: MessageReader;
  /** What the other side says at the end. */
  #status: ConnectError | 'ok' | undefined;
  /** Why this side has given up. */
  #refusal: ConnectError | undefined;
  /** What has become of the stream. */
  #error: unknown;

  /** Throws ConnectError when it cannot even begin. */
  constructor(connection: GrpcConnection, { path, maxMessageBytes, signal }: GrpcCallOptions) {
    this.#connection = connection;
    this.#signal = signal;
    this.#reader = new MessageReader(maxMessageBytes);
    const failure = this.#cutOff();
    if (failure !== undefined) throw failure;
    this.#stream = connection.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc+proto',
      te: 'trailers',
    });
    this.#stream.on('response', (headers) => {
      if (headers['grpc-status'] !== undefined) this.#status = statusOf(headers);
      else if (headers[':status'] !== 200) this.#status = httpFailure(headers[':status']);
    });
    this.#stream.on('trailers', (trailers: IncomingHttpHeaders) => {
      this.#status ??= statusOf(trailers);
    });
    this.#stream.on('error', (error) => {
      this.#error ??= error;
    });
    const cancel = (): void => {
      this.#cancel();
    };
    signal?.addEventListener('abort', cancel, { once: true });
    this.#stream.once('close', () => signal?.removeEventListener('abort', cancel));
  }

  /** The only message of the request. */
  sendOnly(message: Uint8Array): void {
    this.#stream.end(framed(message));
  }

  /** Sends until there are no more, or the call is over. What `messages` throws becomes the result of the call. */
  async send<T>(messages: AsyncIterable<T>, encode: (message: T) => Uint8Array): Promise<void> {
    const iterator = messages[Symbol.asyncIterator]();
    this.#stream.once('close', () => {
      void iterator.return?.().catch(() => undefined);
    });
    try {
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
        if (!this.#stream.writable) return;
        if (!this.#stream.write(framed(encode(next.value)))) await this.#drained();
      }
      this.#stream.end();
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** The only message of the answer. By events: each wait for a promise takes longer than all of this. */
  receiveOnly<T>(decode: (message: Uint8Array) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const received: T[] = [];
      let ended = false;
      const settle = (): void => {
        const failure = this.#failure();
        const [message] = received;
        if (failure !== undefined) reject(failure);
        else if (message === undefined || received.length > 1)
          reject(new ConnectError(`${String(received.length)} messages instead of one`, Code.Internal));
        else resolve(message);
      };
      this.#stream.on('data', (piece: Buffer) => received.push(...this.#take(piece, decode)));
      // The two come in either order.
      this.#stream.once('end', () => {
        ended = true;
        if (this.#status !== undefined) settle();
      });
      this.#stream.once('trailers', () => {
        if (ended) settle();
      });
      this.#stream.once('close', settle);
    });
  }

  /** All messages of the answer. Whoever leaves early cancels the call. */
  async *receive<T>(decode: (message: Uint8Array) => T): AsyncGenerator<T, void> {
    const pieces = this.#stream.iterator({ destroyOnReturn: false });
    try {
      for (;;) {
        const next = await this.#orError(pieces.next());
        if (next?.done !== false) break;
        for (const message of this.#take(next.value as Buffer, decode)) yield message;
      }
      if (this.#status === undefined && !this.#stream.closed) await this.#trailersOrClose();
      const failure = this.#failure();
      if (failure !== undefined) throw failure;
    } finally {
      await pieces.return?.();
      this.#leave();
    }
  }

  #take<T>(piece: Buffer, decode: (message: Uint8Array) => T): readonly T[] {
    try {
      return this.#reader.push(piece).map((message) => decode(message));
    } catch (error) {
      this.#refuse(error);
      return [];
    }
  }

  #refuse(reason: unknown): void {
    this.#refusal ??= ConnectError.from(reason, Code.Internal);
    this.#cancel();
  }

  /** Destroyed as well: otherwise it would end once the other side has been told, which may never read. */
  #cancel(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL);
    this.#stream.destroy();
  }

  async #orError<T>(piece: Promise<T>): Promise<T | undefined> {
    try {
      return await piece;
    } catch (error) {
      this.#error ??= error;
      return undefined;
    }
  }

  #leave(): void {
    this.#stream.resume();
    // What has arrived together with the last message may be the end, and nobody hears what is said after that.
    setImmediate(() => {
      if (this.#status === undefined) this.#cancel();
      else this.#stream.end();
    });
  }

  async #trailersOrClose(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const done = (): void => {
      resolve(undefined);
    };
    this.#stream.once('trailers', done).once('close', done);
    await promise;
  }

  async #drained(): Promise<void> {
    const over = new AbortController();
    const end = (): void => {
      over.abort();
    };
    this.#stream.once('close', end);
    try {
      await once(this.#stream, 'drain', { signal: over.signal });
    } catch (error) {
      if (!over.signal.aborted) throw error;
    } finally {
      this.#stream.removeListener('close', end);
    }
  }

  #failure(): ConnectError | undefined {
    if (this.#refusal !== undefined) return this.#refusal;
    if (this.#status === 'ok') return undefined;
    if (this.#status !== undefined) return this.#status;
    const failure = this.#cutOff();
    if (failure !== undefined) return failure;
    const { rstCode } = this.#stream;
    const code = resets.get(rstCode) ?? Code.Internal;
    if (this.#error !== undefined) return ConnectError.from(this.#error, code);
    return new ConnectError(`ended without a status, with ${String(rstCode)} of HTTP/2`, code);
  }

  /** A connection dies in many ways; callers see one. */
  #cutOff(): ConnectError | undefined {
    if (this.#signal?.aborted === true)
      return new ConnectError('cancelled', Code.Canceled, undefined, undefined, this.#signal.reason);
    const { lossReason } = this.#connection;
    if (lossReason === undefined) return undefined;
    return new ConnectError(lossReason, Code.Unavailable, undefined, undefined, this.#error);
  }
}

function statusOf(headers: IncomingHttpHeaders): ConnectError | 'ok' {
  const text = headers['grpc-status'];
  const code = Number(text ?? Number.NaN);
  if (code === 0) return 'ok';
  const message = decoded(String(headers['grpc-message'] ?? ''));
  return isCode(code) ? new ConnectError(message, code) : new ConnectError(`status ${String(text)}: ${message}`);
}

function isCode(code: number): code is Code {
  return Object.hasOwn(Code, code);
}

function httpFailure(status: number | undefined): ConnectError {
  return new ConnectError(`HTTP status ${String(status)}`, Code.Unknown);
}

function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}
