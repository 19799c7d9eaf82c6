export interface Summary {
  readonly count: number;
  readonly min: number;
  readonly p50: number;
  readonly p90: number;
  readonly max: number;
}

/** Between two samples it is on the line between them, so that the median of an even number is the usual one. */
export function quantile(samples: readonly number[], fraction: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const position = fraction * (sorted.length - 1);
  const below = sorted[Math.floor(position)];
  const above = sorted[Math.ceil(position)];
  if (below === undefined || above === undefined) throw new Error('no samples');
  return below + (above - below) * (position % 1);
}

export function summarize(samples: readonly number[]): Summary {
  const at = (fraction: number): number => quantile(samples, fraction);
  return { count: samples.length, min: at(0), p50: at(0.5), p90: at(0.9), max: at(1) };
}
