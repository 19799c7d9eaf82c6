import type { PodTrace, TracedRequest } from './pod-trace.ts';

/** One bar: a request, or a step of it. */
export interface Bar {
  readonly label: string;
  /** 0: a request; 1: a step; 2: a part of a step; and so on. */
  readonly depth: number;
  /** From the begin of the section. */
  readonly startMs: number;
  readonly ms: number;
  /** It ends beyond the section. */
  readonly beyond: boolean;
}

/** Requests that follow each other closely, on one axis. */
export interface Section {
  /** Time in which nothing was asked of the daemon, before this. */
  readonly idleMs: number;
  readonly totalMs: number;
  readonly bars: readonly Bar[];
}

/** A longer pause would leave nothing to see of what is beside it. */
const pauseMs = 1_000;
/** What ends so much later than its request, such as the first line of a quiet container, does not stretch the axis. */
const latestMs = 5_000;

/** What a waterfall shows, whatever it is drawn with. */
export function layout(trace: PodTrace): readonly Section[] {
  const groups: { begin: number; end: number; idleMs: number; requests: { at: number; request: TracedRequest }[] }[] =
    [];
  const first = trace.requests[0]?.startedAt ?? 0n;
  for (const request of trace.requests) {
    const at = Number(request.startedAt - first) / 1e6;
    const group = groups.at(-1);
    if (group !== undefined && at <= group.end + pauseMs) {
      group.requests.push({ at, request });
      group.end = Math.max(group.end, endOf(at, request));
    } else {
      const idleMs = group === undefined ? 0 : at - group.end;
      groups.push({ begin: at, end: endOf(at, request), idleMs, requests: [{ at, request }] });
    }
  }
  return groups.map(({ begin, end, idleMs, requests }) => {
    const totalMs = end - begin;
    return {
      idleMs,
      totalMs,
      bars: requests.flatMap(({ at, request }) => barsOf(request, at - begin, totalMs)),
    };
  });
}

function endOf(at: number, { ms, steps }: TracedRequest): number {
  const ends = steps.map((step) => step.startMs + step.ms).filter((end) => end <= ms + latestMs);
  return at + Math.max(ms, ...ends);
}

function barsOf({ request, ms, steps, container }: TracedRequest, at: number, totalMs: number): readonly Bar[] {
  const label = container === undefined ? request : `${request} ${container.name}`;
  return [
    { label, depth: 0, startMs: at, ms, beyond: false },
    ...steps.map((step) => ({
      label: step.name,
      depth: step.depth + 1,
      startMs: at + step.startMs,
      ms: step.ms,
      beyond: at + step.startMs + step.ms > totalMs,
    })),
  ];
}

/** 0.4 ms, 96.1 ms, 4.12 s */
export function shownTime(ms: number): string {
  return ms < 1_000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`;
}
