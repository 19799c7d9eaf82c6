/** Where the time of requests went, as it is kept, shown and exported. */

/** One named step of a request. Steps that go on beside each other overlap. */
export interface TraceStep {
  readonly name: string;
  /** From the begin of the request, in milliseconds. */
  readonly startMs: number;
  readonly ms: number;
  /** 0: a step of the request itself. n: a part of the step of depth n - 1 that is the last before it. */
  readonly depth: number;
}

export type TracedRequest = 'RunPodSandbox' | 'CreateContainer' | 'StartContainer';

export interface RequestTrace {
  readonly request: TracedRequest;
  /** Nanoseconds since the epoch. */
  readonly startedAt: bigint;
  /** Until it was answered. Steps may end later, such as the wait for the first line of a log. */
  readonly ms: number;
  readonly steps: readonly TraceStep[];
}

/** The span of a caller that traces its own work, such as a kubelet. */
export interface TraceParent {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits. */
  readonly spanId: string;
}

/** Whom a request was for. */
export interface TraceSubject {
  /** Of the sandbox or the container; the trace is kept as long as it exists. */
  readonly id: string;
  readonly sandboxId: string;
  /** What distinguishes it for people, by OpenTelemetry's names for such facts. */
  readonly attributes: Readonly<Record<string, string>>;
  /** What the request is part of; without it the requests of a pod are one trace. */
  readonly parent?: TraceParent | undefined;
}

/** Takes traces elsewhere. Never waits and never fails: the request is over or still at work. */
export interface TraceSink {
  /** `error`: why the request failed. */
  ended(subject: TraceSubject, trace: RequestTrace, error: string | undefined): void;
  /** A step that was over after its request. */
  later(subject: TraceSubject, trace: RequestTrace, step: TraceStep): void;
}
