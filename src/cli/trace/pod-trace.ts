/** Where the time of a pod and its containers went, as the daemon tells it. */
import { z } from 'zod';

const step = z.object({
  name: z.string(),
  startMs: z.number(),
  ms: z.number(),
  depth: z.int().min(0),
});

/** `startup` of the info that the daemon adds to a verbose status. */
export const startupSchema = z.array(
  z.object({
    request: z.string(),
    /** Nanoseconds since the epoch; as text, for they exceed what a number holds. */
    startedAt: z.union([z.string().regex(/^\d+$/), z.int()]).transform((ns) => BigInt(ns)),
    ms: z.number(),
    steps: z.array(step),
  }),
);

type Request = z.output<typeof startupSchema>[number];

export interface TracedContainer {
  readonly id: string;
  readonly name: string;
  readonly attempt: number;
}

export interface TracedRequest extends Request {
  /** Of whom, unless of the pod itself. */
  readonly container?: TracedContainer;
}

export interface PodTrace {
  readonly id: string;
  readonly name: string;
  readonly namespace: string;
  readonly attempt: number;
  /** Where its virtual machine came from: pool, clone, or cold boot. */
  readonly origin: string;
  /** In the order of their begin. */
  readonly requests: readonly TracedRequest[];
}

/** For programs. */
export function traceJson(trace: PodTrace): string {
  const requests = trace.requests.map(({ startedAt, ...rest }) => ({
    ...rest,
    startedAt: new Date(Number(startedAt / 1_000_000n)).toISOString(),
  }));
  return `${JSON.stringify({ ...trace, requests }, undefined, 2)}\n`;
}
