/**
 * Traces of requests as OpenTelemetry's spans, in the JSON form of OTLP:
 * https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
 */
import { createHash, randomBytes } from 'node:crypto';

export interface Step {
  readonly name: string;
  /** From the begin of the request. */
  readonly startMs: number;
  readonly ms: number;
  /** n: part of the last step before it of depth n - 1. */
  readonly depth: number;
}

export interface Request {
  readonly request: string;
  /** Nanoseconds since the epoch. */
  readonly startedAt: bigint;
  readonly ms: number;
  readonly steps: readonly Step[];
}

export interface Subject {
  readonly id: string;
  readonly sandboxId: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** The span of the caller. */
  readonly parent?: { readonly traceId: string; readonly spanId: string } | undefined;
}

export interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue: string };
}

export interface Span {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits. */
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  /** 1: internal. 2: of a server. */
  readonly kind: 1 | 2;
  /** As text, for they exceed what a number of JSON holds. */
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  /** code 2: failed. */
  readonly status?: { readonly code: 2; readonly message: string };
}

/**
 * A span for the request and one for each of its steps. The requests of one pod are one trace, unless the caller
 * has one of its own.
 */
export function requestSpans(subject: Subject, trace: Request, error: string | undefined): readonly Span[] {
  const root: Span = {
    traceId: traceId(subject),
    spanId: requestSpanId(subject, trace),
    ...(subject.parent === undefined ? {} : { parentSpanId: subject.parent.spanId }),
    name: trace.request,
    kind: 2,
    ...times(trace, 0, trace.ms),
    attributes: attributesOf({
      'rpc.system': 'grpc',
      'rpc.service': 'runtime.v1.RuntimeService',
      'rpc.method': trace.request,
      'kelyfos.sandbox.id': subject.sandboxId,
      ...subject.attributes,
    }),
    ...(error === undefined ? {} : { status: { code: 2, message: error } }),
  };
  const around = [root.spanId];
  const steps = trace.steps.map((step) => {
    const parent = around[step.depth] ?? root.spanId;
    const span = stepSpan(subject, trace, step, parent);
    around.length = step.depth + 1;
    around.push(span.spanId);
    return span;
  });
  return [root, ...steps];
}

/** A step that has ended after its request was exported. */
export function laterSpan(subject: Subject, trace: Request, step: Step): Span {
  return stepSpan(subject, trace, step, requestSpanId(subject, trace));
}

export function attributesOf(values: Readonly<Record<string, string>>): readonly Attribute[] {
  return Object.entries(values)
    .filter(([, value]) => value !== '')
    .map(([key, value]) => ({ key, value: { stringValue: value } }));
}

function stepSpan(subject: Subject, trace: Request, step: Step, parentSpanId: string): Span {
  return {
    traceId: traceId(subject),
    spanId: randomBytes(8).toString('hex'),
    parentSpanId,
    name: step.name,
    kind: 1,
    ...times(trace, step.startMs, step.ms),
    attributes: [],
  };
}

/** Sandbox ids are 64 random hex digits. */
function traceId({ sandboxId, parent }: Subject): string {
  return parent?.traceId ?? sandboxId.slice(0, 32);
}

/** The same each time, so that what ends later finds its parent. */
function requestSpanId({ id }: Subject, { request }: Request): string {
  return createHash('sha256').update(`${request} ${id}`).digest('hex').slice(0, 16);
}

function times({ startedAt }: Request, startMs: number, ms: number) {
  const start = startedAt + nanoseconds(startMs);
  return { startTimeUnixNano: String(start), endTimeUnixNano: String(start + nanoseconds(ms)) };
}

function nanoseconds(ms: number): bigint {
  return BigInt(Math.round(ms * 1e6));
}
