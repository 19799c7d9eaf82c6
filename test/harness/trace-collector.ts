import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';

export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status?: { readonly message: string };
  readonly attributes: readonly { readonly key: string; readonly value: { readonly stringValue: string } }[];
}

interface Document {
  readonly resourceSpans: readonly {
    readonly scopeSpans: readonly { readonly spans: readonly CollectedSpan[] }[];
  }[];
}

/** Takes traces by OTLP over HTTP, as a collector of OpenTelemetry does. */
export class TraceCollector implements AsyncDisposable {
  readonly spans: CollectedSpan[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      if (request.method !== 'POST' || request.url !== '/v1/traces') {
        response.writeHead(404).end();
        return;
      }
      void json(request).then((body) => {
        const { resourceSpans } = body as Document;
        this.spans.push(...resourceSpans.flatMap((each) => each.scopeSpans).flatMap(({ spans }) => spans));
        response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      });
    });
  }

  static async start(): Promise<TraceCollector> {
    const collector = new TraceCollector();
    const listening = Promise.withResolvers<undefined>();
    collector.#server.listen(0, '127.0.0.1', () => {
      listening.resolve(undefined);
    });
    await listening.promise;
    return collector;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  /** Waits for a span. */
  async spanWith(wanted: (span: CollectedSpan) => boolean, timeoutMs = 30_000): Promise<CollectedSpan> {
    for (const deadline = Date.now() + timeoutMs; ;) {
      const found = this.spans.find(wanted);
      if (found !== undefined) return found;
      if (Date.now() > deadline)
        throw new Error(`not among ${String(this.spans.length)} spans after ${String(timeoutMs)} ms`);
      await delay(20);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
