import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { attributesOf, laterSpan, type Request, requestSpans, type Span, type Step, type Subject } from './spans.ts';

/** Some 2 MiB; a pod with one container has about 30 spans. */
const maxQueued = 4_096;
const maxBatch = 512;
/** Spans are sent together with those that come within this time. */
const gatherMs = 1_000;
const requestTimeoutMs = 10_000;
const firstRetryMs = 1_000;
const lastRetryMs = 60_000;
/** https://opentelemetry.io/docs/specs/otlp/#failures-1: all other answers are final. */
const retryable: ReadonlySet<number> = new Set([429, 502, 503, 504]);

export interface OtlpExporterOptions {
  /** As in `tracing.endpoint`. */
  readonly endpoint: string;
  readonly version: string;
  /** Of this node. */
  readonly hostName: string;
  readonly log: Log;
  readonly fetch?: typeof fetch;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * Sends traces to a collector by OTLP over HTTP, in JSON. Requests never wait for it: spans queue up,
 * and what exceeds the queue is dropped, oldest first.
 */
export class OtlpExporter {
  readonly #options: OtlpExporterOptions;
  readonly #url: string;
  readonly #fetch: typeof fetch;
  readonly #sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly #stopped = new AbortController();
  readonly #closing = Promise.withResolvers<undefined>();
  #queue: Span[] = [];
  #dropped = 0;
  #failing = false;
  #sending: Promise<void> | undefined;

  constructor(options: OtlpExporterOptions) {
    this.#options = options;
    this.#url = tracesUrl(options.endpoint);
    this.#fetch = options.fetch ?? fetch;
    this.#sleep = options.sleep ?? ((ms, signal) => delay(ms, undefined, { signal }));
  }

  ended(subject: Subject, trace: Request, error: string | undefined): void {
    this.#add(requestSpans(subject, trace, error));
  }

  later(subject: Subject, trace: Request, step: Step): void {
    this.#add([laterSpan(subject, trace, step)]);
  }

  /** Sends what waits, for at most this long. */
  async close(graceMs: number): Promise<void> {
    this.#closing.resolve(undefined);
    const timer = setTimeout(() => {
      this.#stopped.abort();
    }, graceMs);
    await this.#sending;
    clearTimeout(timer);
    this.#stopped.abort();
  }

  #add(spans: readonly Span[]): void {
    if (this.#stopped.signal.aborted) return;
    this.#queue.push(...spans);
    const excess = this.#queue.length - maxQueued;
    if (excess > 0) {
      this.#queue.splice(0, excess);
      this.#dropped += excess;
    }
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = undefined;
    });
  }

  async #sendAll(): Promise<void> {
    const { signal } = this.#stopped;
    let retryMs = firstRetryMs;
    await Promise.race([this.#sleep(gatherMs, signal).catch(() => undefined), this.#closing.promise]);
    while (this.#queue.length > 0 && !this.#isStopped()) {
      const batch = this.#queue.slice(0, maxBatch);
      const outcome = await this.#send(batch);
      if (outcome.kind === 'retry') {
        this.#tell(outcome.reason);
        await this.#sleep(outcome.afterMs ?? retryMs, signal).catch(() => undefined);
        retryMs = Math.min(retryMs * 2, lastRetryMs);
        continue;
      }
      retryMs = firstRetryMs;
      // Others may have been dropped from the front meanwhile.
      const sent = new Set(batch);
      this.#queue = this.#queue.filter((span) => !sent.has(span));
      if (outcome.kind === 'sent') this.#tellWell();
      else this.#tell(outcome.reason);
    }
  }

  async #send(spans: readonly Span[]): Promise<Outcome> {
    try {
      const response = await this.#fetch(this.#url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(this.#document(spans)),
        signal: AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(requestTimeoutMs)]),
      });
      // Read to the end, so that the connection serves the next one.
      const text = await response.text();
      if (response.ok) return { kind: 'sent' };
      const reason = `${this.#url} answers ${String(response.status)} ${text.slice(0, 200).trim()}`.trimEnd();
      if (!retryable.has(response.status)) return { kind: 'refused', reason };
      const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
      return { kind: 'retry', reason, afterMs: seconds > 0 ? Math.min(seconds * 1000, lastRetryMs) : undefined };
    } catch (error) {
      const cause = error instanceof Error && error.cause !== undefined ? `: ${messageOf(error.cause)}` : '';
      return { kind: 'retry', reason: `${this.#url}: ${messageOf(error)}${cause}`, afterMs: undefined };
    }
  }

  #document(spans: readonly Span[]): object {
    const { version, hostName } = this.#options;
    const resource = { 'service.name': 'kelyfos', 'service.version': version, 'host.name': hostName };
    return {
      resourceSpans: [
        {
          resource: { attributes: attributesOf(resource) },
          scopeSpans: [{ scope: { name: 'kelyfos', version }, spans }],
        },
      ],
    };
  }

  /** Once for as long as it does not work. */
  #tell(reason: string): void {
    if (this.#failing || this.#isStopped()) return;
    this.#failing = true;
    this.#options.log.warn(`traces cannot be exported: ${reason}`);
  }

  #tellWell(): void {
    if (!this.#failing) return;
    this.#failing = false;
    this.#options.log.info({ droppedSpans: this.#dropped }, 'traces are exported again');
    this.#dropped = 0;
  }

  #isStopped(): boolean {
    return this.#stopped.signal.aborted;
  }
}

type Outcome =
  | { readonly kind: 'sent' }
  /** The collector will not take these. */
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'retry'; readonly reason: string; readonly afterMs: number | undefined };

/** The path of OTLP, unless the endpoint names one. */
function tracesUrl(endpoint: string): string {
  const url = new URL(endpoint);
  if (url.pathname === '/') url.pathname = '/v1/traces';
  return url.href;
}
