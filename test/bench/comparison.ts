import { quantile } from './statistics.ts';
import { type Column, formatTable } from './table.ts';

/** One figure of both, measured in the same run. */
export interface Comparison {
  readonly name: string;
  readonly unit: 'ms' | 'MB/s';
  readonly own: readonly number[];
  readonly peer: readonly number[];
  /** Of the medians' ratio, own to peer. */
  readonly target?: RatioTarget | undefined;
}

export interface RatioTarget {
  readonly sense: 'at most' | 'at least';
  readonly ratio: number;
}

export interface Verdict extends Comparison {
  readonly ownP50: number;
  readonly peerP50: number;
  readonly ratio: number;
  /** Absent without a target. */
  readonly met?: boolean;
}

export function judge(comparison: Comparison): Verdict {
  const { own, peer, target } = comparison;
  const [ownP50, peerP50] = [quantile(own, 0.5), quantile(peer, 0.5)];
  const ratio = ownP50 / peerP50;
  if (target === undefined) return { ...comparison, ownP50, peerP50, ratio };
  const met = target.sense === 'at most' ? ratio <= target.ratio : ratio >= target.ratio;
  return { ...comparison, ownP50, peerP50, ratio, met };
}

const columns: readonly Column[] = [
  { title: '', align: 'left' },
  { title: 'kelyfos', align: 'right' },
  { title: 'p90', align: 'right' },
  { title: 'containerd', align: 'right' },
  { title: 'p90', align: 'right' },
  { title: 'unit', align: 'left' },
  { title: 'ratio', align: 'right' },
  { title: 'target', align: 'right' },
  { title: '', align: 'left' },
];

const shown = (value: number): string => value.toFixed(value < 100 ? 1 : 0);

/** Medians of both and their ratio beside its target; where there are targets, a last line says how many were met. */
export function formatComparisons(comparisons: readonly Comparison[]): string {
  const verdicts = comparisons.map(judge);
  const rows = verdicts.map(({ name, unit, own, peer, ownP50, peerP50, ratio, target, met }) => [
    name,
    ...[ownP50, quantile(own, 0.9), peerP50, quantile(peer, 0.9)].map(shown),
    unit,
    ratio.toFixed(2),
    ...(target === undefined
      ? ['', '']
      : [`${target.sense === 'at most' ? '<=' : '>='} ${String(target.ratio)}`, met === true ? 'met' : 'MISSED']),
  ]);
  const table = formatTable(columns, rows);
  const held = verdicts.filter(({ met }) => met !== undefined);
  if (held.length === 0) return table;
  const missed = held.filter(({ met }) => met === false).map(({ name }) => name);
  const verdict =
    missed.length === 0
      ? `all ${String(held.length)} targets met (by the median)`
      : `${String(missed.length)} of ${String(held.length)} targets missed (by the median): ${missed.join(', ')}`;
  return `${table}\n\n${verdict}`;
}
