import { type Summary, summarize } from './statistics.ts';

export type Unit = 'ms' | 'MB' | 'times' | 'pods' | '%';

/** What the median is held against. */
export interface Target {
  readonly sense: 'at most' | 'at least';
  readonly value: number;
}

export interface Measurement {
  readonly name: string;
  readonly unit: Unit;
  readonly samples: readonly number[];
  readonly target?: Target;
}

/** A measurement as it goes into the table and the file. */
export interface Result extends Measurement {
  readonly summary: Summary;
  /** Absent without a target. */
  readonly met?: boolean;
}

export function assess(measurement: Measurement): Result {
  const summary = summarize(measurement.samples);
  const { target } = measurement;
  if (target === undefined) return { ...measurement, summary };
  const met = target.sense === 'at most' ? summary.p50 <= target.value : summary.p50 >= target.value;
  return { ...measurement, summary, met };
}
