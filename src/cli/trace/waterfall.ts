import { type Bar, layout, type Section, shownTime } from './layout.ts';
import type { PodTrace } from './pod-trace.ts';

const timeColumns = 9;
const leastBarColumns = 10;
/** Requests, their steps, and parts of these. */
const blocks = ['█', '▓', '▒', '░'] as const;

/** The trace for a terminal of so many columns. */
export function waterfall(trace: PodTrace, columns: number): string {
  const sections = layout(trace);
  const labels = sections.flatMap(({ bars }) => bars.map(labelOf));
  const labelColumns = Math.max(0, ...labels.map((label) => label.length));
  // The label, begin and duration, each with what separates it, and the two ends of the bar.
  const barColumns = Math.max(leastBarColumns, columns - labelColumns - 2 * (timeColumns + 2) - 4);
  return [
    `pod ${trace.namespace}/${trace.name} (${trace.id.slice(0, 13)}), virtual machine from: ${trace.origin}`,
    ...sections.flatMap((section) => sectionLines(section, labelColumns, barColumns)),
  ]
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}

function sectionLines({ idleMs, totalMs, bars }: Section, labelColumns: number, barColumns: number): string[] {
  return [
    idleMs > 0 ? `\n${shownTime(idleMs)} later` : '',
    `${''.padEnd(labelColumns)}  ${'begin'.padStart(timeColumns)}  ${'took'.padStart(timeColumns)}`,
    ...bars.map((bar) =>
      [
        labelOf(bar).padEnd(labelColumns),
        shownTime(bar.startMs).padStart(timeColumns),
        shownTime(bar.ms).padStart(timeColumns),
        `▕${drawn(bar, totalMs, barColumns)}▏`,
      ].join('  '),
    ),
  ];
}

function labelOf({ depth, label }: Bar): string {
  return '  '.repeat(depth) + label;
}

/** However short, a bar has a column. */
function drawn({ startMs, ms, depth, beyond }: Bar, totalMs: number, columns: number): string {
  const scale = totalMs > 0 ? columns / totalMs : 0;
  const from = Math.min(columns - 1, Math.floor(startMs * scale));
  const to = Math.min(columns, Math.max(from + 1, Math.round((startMs + ms) * scale)));
  const block = blocks[Math.min(depth, blocks.length - 1)] ?? '█';
  const bar = beyond ? `${block.repeat(to - from - 1)}›` : block.repeat(to - from);
  return `${' '.repeat(from)}${bar}`.padEnd(columns);
}
