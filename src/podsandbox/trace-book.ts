import { messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { Table } from '../store/store.ts';
import { Trace } from './trace.ts';
import type { RequestTrace, TracedRequest, TraceSink, TraceSubject } from './trace-model.ts';

/** A request at work, or just over. */
export interface OpenTrace {
  readonly trace: Trace;
  /** The id of the sandbox that it makes, where that was not known at its begin. */
  identify(sandboxId: string): void;
  /** Another fact about whom it is for. */
  note(attribute: string, value: string): void;
  /** The request is over; with an error it has failed. */
  end(error?: unknown): void;
  /** Something that the request has brought about has happened, before its end or after it. */
  reached(name: string): void;
}

/**
 * The traces of the requests that have made what there is. They are kept with it and go with it, so
 * there are never more than a few for each. Nobody waits for them to be written.
 */
export class TraceBook {
  readonly #table: Table<readonly RequestTrace[]>;
  readonly #sink: TraceSink | undefined;
  readonly #exists: (id: string) => boolean;
  readonly #log: Log;
  readonly #kept = new Map<string, readonly RequestTrace[]>();

  constructor(
    table: Table<readonly RequestTrace[]>,
    sink: TraceSink | undefined,
    exists: (id: string) => boolean,
    log: Log,
  ) {
    this.#table = table;
    this.#sink = sink;
    this.#exists = exists;
    this.#log = log;
  }

  /** Those of an earlier daemon; drops what belongs to nothing. */
  load(): void {
    for (const { key, record } of this.#table.entries()) {
      if (this.#exists(key)) this.#kept.set(key, record);
      else this.forget(key);
    }
  }

  of(id: string): readonly RequestTrace[] {
    return this.#kept.get(id) ?? [];
  }

  begin(request: TracedRequest, about: TraceSubject): OpenTrace {
    const trace = new Trace(request);
    let subject = about;
    return {
      trace,
      identify: (sandboxId) => {
        subject = { ...subject, id: sandboxId, sandboxId };
      },
      note: (attribute, value) => {
        subject = { ...subject, attributes: { ...subject.attributes, [attribute]: value } };
      },
      end: (error) => {
        trace.end();
        this.#keep(subject.id, trace.result);
        this.#sink?.ended(subject, trace.result, error === undefined ? undefined : messageOf(error));
      },
      reached: (name) => {
        const step = trace.reached(name);
        if (!trace.ended) return;
        this.#keep(subject.id, trace.result);
        this.#sink?.later(subject, trace.result, step);
      },
    };
  }

  forget(id: string): void {
    this.#kept.delete(id);
    this.#table.remove(id).catch((error: unknown) => {
      this.#log.debug({ err: error }, `traces of ${id} stay: ${messageOf(error)}`);
    });
  }

  /** One of each request, the latest; nothing of what has failed to come into being. */
  #keep(id: string, trace: RequestTrace): void {
    if (!this.#exists(id)) return;
    const traces = [...this.of(id).filter(({ request }) => request !== trace.request), trace];
    this.#kept.set(id, traces);
    this.#table.put(id, traces).catch((error: unknown) => {
      this.#log.debug({ err: error }, `traces of ${id} are not kept: ${messageOf(error)}`);
    });
  }
}
