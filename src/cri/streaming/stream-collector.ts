import { AppError } from '../../platform/errors.ts';
import type { CommandProtocol } from './command-protocol.ts';
import type { SpdyStream } from './spdy/stream.ts';
import type { CommandRequest } from './stream-request.ts';

type StreamType = 'stdin' | 'stdout' | 'stderr' | 'error' | 'resize';

/** The streams that a client of this protocol opens for what it has asked for. */
export function expectedStreams(request: CommandRequest, protocol: CommandProtocol): ReadonlySet<string> {
  const { stdin, stdout, stderr, tty } = request.streams;
  const wanted: Readonly<Record<StreamType, boolean>> = {
    error: true,
    stdin,
    stdout,
    stderr,
    resize: tty && protocol.resizes,
  };
  return new Set(Object.entries(wanted).flatMap(([type, expected]) => (expected ? [type] : [])));
}

/** Accepts streams until all that are expected have come. */
export class StreamCollector {
  readonly #expected: ReadonlySet<string>;
  readonly #streams = new Map<string, SpdyStream>();
  readonly #turn = Promise.withResolvers<undefined>();

  constructor(expected: ReadonlySet<string>) {
    this.#expected = expected;
  }

  add(stream: SpdyStream): void {
    const type = stream.headers.get('streamtype') ?? '';
    if (!this.#expected.has(type)) throw new AppError('invalid', `a stream "${type}" was not asked for`);
    if (this.#streams.has(type)) throw new AppError('invalid', `a second stream "${type}"`);
    stream.accept();
    this.#streams.set(type, stream);
    if (this.#streams.size === this.#expected.size) this.#turn.resolve(undefined);
  }

  async all(signal: AbortSignal): Promise<Readonly<Partial<Record<StreamType, SpdyStream>>>> {
    const abort = (): void => {
      const missing = [...this.#expected].filter((type) => !this.#streams.has(type));
      this.#turn.reject(new AppError('deadline', `the client has not opened its streams: ${missing.join(', ')}`));
    };
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    await this.#turn.promise;
    signal.removeEventListener('abort', abort);
    return Object.fromEntries(this.#streams);
  }
}
