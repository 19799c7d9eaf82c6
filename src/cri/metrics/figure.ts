import type { Outgoing } from '../call.ts';
import type * as cri from '../gen/cri-types.ts';
import { catalogue, type MetricName } from './catalogue.ts';

/** One number of a pod or container, with the values of the labels that its name has beside the common ones. */
export interface Figure {
  readonly name: MetricName;
  readonly value: bigint;
  readonly labels?: readonly string[];
  /** Nanoseconds since the epoch, when it is older than the others. */
  readonly at?: bigint;
}

/** What is not known is left out. */
export function known(
  name: MetricName,
  value: bigint | undefined,
  labels: readonly string[] = [],
  at?: bigint,
): readonly Figure[] {
  return value === undefined ? [] : [{ name, value, labels, ...(at === undefined ? {} : { at }) }];
}

/** Names end in `_seconds_total`, and the API has whole numbers only. */
export function secondsOf(nanoseconds: bigint | undefined): bigint | undefined {
  return nanoseconds === undefined ? undefined : nanoseconds / 1_000_000_000n;
}

/** `common`: values of the labels that all have; `at`: nanoseconds since the epoch. */
export function shapeMetric(
  { name, value, labels = [], at: ownAt }: Figure,
  common: readonly string[],
  at: bigint,
): Outgoing<cri.Metric> {
  return {
    name,
    timestamp: String(ownAt ?? at),
    metric_type: catalogue[name].type,
    label_values: [...common, ...labels],
    // A number that was reckoned from several can be below zero for a moment; the type has no sign.
    value: { value: String(value < 0n ? 0n : value) },
  };
}
