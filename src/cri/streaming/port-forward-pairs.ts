import { AppError } from '../../platform/errors.ts';
import type { SpdyStream } from './spdy/stream.ts';

/** How long a client may take for the second stream of a pair. */
const pairTimeoutMs = 30_000;

/** One forwarded TCP connection: its bytes, and where its failure is told. */
export interface ForwardPair {
  readonly port: number;
  readonly data: SpdyStream;
  readonly error: SpdyStream;
}

interface Half {
  readonly stream: SpdyStream;
  readonly type: 'data' | 'error';
  readonly timer: NodeJS.Timeout;
}

function parsePort(text: string | undefined): number {
  const port = /^\d{1,5}$/.test(text ?? '') ? Number(text) : 0;
  if (port < 1 || port > 0xffff) throw new AppError('invalid', `"${text ?? ''}" is not a port`);
  return port;
}

/** Clients before 1.1 send no id: their data stream directly follows the error stream. */
function requestId(stream: SpdyStream, type: 'data' | 'error'): string {
  return stream.headers.get('requestid') ?? String(type === 'error' ? stream.id : stream.id - 2);
}

/** Puts the two streams together that belong to one connection, in the order of their arrival or not. */
export class PortForwardPairs implements Disposable {
  readonly #halves = new Map<string, Half>();
  readonly #complete: (pair: ForwardPair) => void;

  constructor(complete: (pair: ForwardPair) => void) {
    this.#complete = complete;
  }

  /** Throws `invalid` when it is no stream of a pair; it is not accepted then. */
  add(stream: SpdyStream): void {
    const type = stream.headers.get('streamtype');
    if (type !== 'data' && type !== 'error') throw new AppError('invalid', `no such stream type: "${type ?? ''}"`);
    const port = parsePort(stream.headers.get('port'));
    const id = requestId(stream, type);
    const half = this.#halves.get(id);
    if (half?.type === type) throw new AppError('invalid', `request ${id} has its ${type} stream already`);
    stream.accept();
    if (half === undefined) {
      const timer = setTimeout(() => {
        this.#halves.delete(id);
        if (type === 'error') stream.end('timed out while waiting for the data stream');
        else stream.destroy();
      }, pairTimeoutMs);
      this.#halves.set(id, { stream, type, timer });
      stream.once('close', () => {
        if (this.#halves.get(id)?.stream === stream) this.#drop(id);
      });
      return;
    }
    this.#drop(id);
    const [data, error] = type === 'data' ? [stream, half.stream] : [half.stream, stream];
    this.#complete({ port, data, error });
  }

  #drop(id: string): void {
    clearTimeout(this.#halves.get(id)?.timer);
    this.#halves.delete(id);
  }

  [Symbol.dispose](): void {
    for (const id of [...this.#halves.keys()]) this.#drop(id);
  }
}
