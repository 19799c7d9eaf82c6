import { assess, type Measurement, type Result, type Target } from './measurement.ts';
import type { Samples } from './samples.ts';
import { summarize } from './statistics.ts';
import { type Column, formatTable } from './table.ts';

const shown = (value: number): string => value.toFixed(value < 100 ? 1 : 0);
const shownTarget = ({ sense, value }: Target): string => `${sense === 'at most' ? '<=' : '>='} ${String(value)}`;

const resultColumns: readonly Column[] = [
  { title: '', align: 'left' },
  { title: 'p50', align: 'right' },
  { title: 'p90', align: 'right' },
  { title: 'unit', align: 'left' },
  { title: 'runs', align: 'right' },
  { title: 'target', align: 'right' },
  { title: '', align: 'left' },
];

function resultRow({ name, unit, summary, target, met }: Result): readonly string[] {
  const { count, p50, p90 } = summary;
  const verdict = met === undefined ? '' : met ? 'met' : 'MISSED';
  // A figure that was had once has no spread.
  const spread = count === 1 ? ['', unit, ''] : [shown(p90), unit, String(count)];
  return [name, shown(p50), ...spread, target === undefined ? '' : shownTarget(target), verdict];
}

/** Medians beside their targets, and a last line that says how many targets were met. */
export function formatResults(measurements: readonly Measurement[]): string {
  const results = measurements.map(assess);
  const held = results.filter(({ met }) => met !== undefined);
  const missed = held.filter(({ met }) => met === false).map(({ name }) => name);
  const verdict =
    missed.length === 0
      ? `all ${String(held.length)} targets met (by the median)`
      : `${String(missed.length)} of ${String(held.length)} targets missed (by the median): ${missed.join(', ')}`;
  return `${formatTable(resultColumns, results.map(resultRow))}\n\n${verdict}`;
}

const stepColumns: readonly Column[] = [
  { title: '', align: 'left' },
  { title: 'p50', align: 'right' },
  { title: 'p90', align: 'right' },
  { title: 'unit', align: 'left' },
];

/** Where the time went, step by step as the daemon traces them. */
export function formatSteps(title: string, steps: Samples): string {
  const rows = steps.entries().map(([name, samples]) => {
    const { p50, p90 } = summarize(samples);
    return [name, shown(p50), shown(p90), 'ms'];
  });
  return formatTable([{ title, align: 'left' }, ...stepColumns.slice(1)], rows);
}
