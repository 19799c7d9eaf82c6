import { type Bar, layout, type Section, shownTime } from './layout.ts';
import type { PodTrace } from './pod-trace.ts';
import { coordinate, escaped, text, ticks } from '../svg.ts';

/** All in the units of the drawing, which are pixels unless it is scaled. */
const width = 1100;
const margin = 16;
const labelWidth = 250;
const rowHeight = 20;
const barHeight = 13;
const headHeight = 46;
const axisHeight = 26;
const indent = 14;
const chartWidth = width - 2 * margin - labelWidth;
/** Room for a duration at the right of a bar; without it, it stands at the left. */
const durationWidth = 70;

const fills = ['#1f4e79', '#2e86c1', '#85c1e9', '#c9dff0'] as const;

/** The trace as a drawing that needs no other file. */
export function waterfallSvg(trace: PodTrace): string {
  const sections = layout(trace);
  const parts: string[] = [];
  let y = headHeight;
  for (const section of sections) {
    parts.push(...sectionParts(section, y));
    y += axisHeight + section.bars.length * rowHeight + margin;
  }
  const title = `pod ${trace.namespace}/${trace.name}`;
  const about = `${trace.id.slice(0, 13)}, virtual machine from: ${trace.origin}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${String(width)}" height="${String(y)}" viewBox="0 0 ${String(width)} ${String(y)}" font-family="sans-serif" font-size="12" fill="#222">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    text(margin, 22, title, 'font-size="15" font-weight="bold"'),
    text(margin, 39, about, 'fill="#666"'),
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function sectionParts({ idleMs, totalMs, bars }: Section, top: number): string[] {
  const left = margin + labelWidth;
  const scale = totalMs > 0 ? chartWidth / totalMs : 0;
  const bottom = top + axisHeight + bars.length * rowHeight;
  const lines = ticks(totalMs).flatMap((ms) => {
    const x = coordinate(left + ms * scale);
    return [
      `<line x1="${x}" y1="${String(top + axisHeight - 6)}" x2="${x}" y2="${String(bottom)}" stroke="#ddd"/>`,
      text(left + ms * scale, top + axisHeight - 9, shownTime(ms), 'fill="#666" font-size="10" text-anchor="middle"'),
    ];
  });
  return [
    ...(idleMs > 0 ? [text(margin, top + axisHeight - 9, `${shownTime(idleMs)} later`, 'fill="#666"')] : []),
    ...lines,
    ...bars.flatMap((bar, row) => barParts(bar, scale, left, top + axisHeight + row * rowHeight)),
  ];
}

function barParts({ label, depth, startMs, ms, beyond }: Bar, scale: number, left: number, top: number): string[] {
  const right = left + chartWidth;
  const x = Math.min(right - 1, left + startMs * scale);
  const end = Math.min(right, Math.max(x + 1, left + (startMs + ms) * scale));
  const fill = fills[Math.min(depth, fills.length - 1)] ?? fills[0];
  const took = shownTime(ms) + (beyond ? ' →' : '');
  const baseline = top + barHeight - 2;
  const fits = end + durationWidth <= right;
  return [
    text(margin + depth * indent, baseline, label, depth === 0 ? 'font-weight="bold"' : ''),
    `<rect x="${coordinate(x)}" y="${String(top)}" width="${coordinate(end - x)}" height="${String(barHeight)}" fill="${fill}"><title>${escaped(`${label}: ${took}, from ${shownTime(startMs)}`)}</title></rect>`,
    fits
      ? text(end + 4, baseline, took, 'fill="#444" font-size="10"')
      : text(x - 4, baseline, took, 'fill="#444" font-size="10" text-anchor="end"'),
  ];
}
