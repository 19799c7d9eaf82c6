import { coordinate, escaped, text, ticks } from '../../src/cli/svg.ts';
import { judge, type Comparison, type RatioTarget } from './comparison.ts';
import { quantile } from './statistics.ts';

/** All in pixels, unless it is scaled. */
const width = 760;
const height = 380;
const left = 64;
const right = 20;
const top = 112;
const bottom = 52;
const plotWidth = width - left - right;
const plotHeight = height - top - bottom;
const legendTop = 54;
const legendRow = 18;

/** The horizontal axis ends at so many times the larger p90, if not before: a single outlier would squeeze all else. */
const reach = 1.6;

interface Curve {
  readonly name: string;
  readonly samples: readonly number[];
  readonly color: string;
}

const targetColor = '#2e8b57';

/**
 * The samples of both as cumulative shares: a curve goes through (x, y) when y of all runs took at most x.
 * Where the curve of kelyfos has to cross the middle to reach its target is marked.
 */
export function distributionSvg(comparison: Comparison, about: string): string {
  const { name, unit, own, peer, target } = comparison;
  const curves: readonly Curve[] = [
    { name: 'kelyfos', samples: own, color: '#1f4e79' },
    { name: 'containerd', samples: peer, color: '#d2691e' },
  ];
  const wanted = target === undefined ? undefined : target.ratio * judge(comparison).peerP50;
  const most = Math.max(...own, ...peer);
  const usual = Math.max(quantile(own, 0.9), quantile(peer, 0.9)) * reach;
  const last = Math.max(Math.min(most, usual) * 1.03, (wanted ?? 0) * 1.1);
  const x = (value: number): number => left + (plotWidth * Math.min(value, last)) / last;
  const y = (share: number): number => top + plotHeight * (1 - share);

  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${String(width)}" height="${String(height)}" viewBox="0 0 ${String(width)} ${String(height)}" font-family="sans-serif" font-size="12" fill="#222">`,
    `<title>${escaped(name)}</title>`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    text(left, 22, name, 'font-size="15" font-weight="bold"'),
    text(left, 38, about, 'fill="#666" font-size="11"'),
    ...axes(last, unit, x, y),
    ...(target === undefined || wanted === undefined ? [] : targetParts(wanted, target.sense, x, y)),
    ...curves.flatMap((curve) => curveParts(curve, last, x, y)),
    ...curves.map((curve, row) => legend(curve, unit, last, row)).flat(),
    ...(target === undefined || wanted === undefined ? [] : targetLegend(target, wanted, unit, curves.length)),
    '</svg>',
    '',
  ].join('\n');
}

type Scale = (value: number) => number;

function axes(last: number, unit: string, x: Scale, y: Scale): string[] {
  const floor = y(0);
  return [
    ...ticks(last).flatMap((value) => [
      line([x(value), y(1)], [x(value), floor], 'stroke="#eee"'),
      text(x(value), floor + 16, shownTick(value), 'fill="#666" font-size="11" text-anchor="middle"'),
    ]),
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
      line([left, y(share)], [left + plotWidth, y(share)], share === 0.5 ? 'stroke="#bbb"' : 'stroke="#eee"'),
      text(left - 8, y(share) + 4, `${String(share * 100)} %`, 'fill="#666" font-size="11" text-anchor="end"'),
    ]),
    line([left, floor], [left + plotWidth, floor], 'stroke="#666"'),
    line([left, y(1)], [left, floor], 'stroke="#666"'),
    text(left + plotWidth / 2, floor + 36, unit, 'text-anchor="middle"'),
    `<text transform="translate(14 ${coordinate((y(0) + y(1)) / 2)}) rotate(-90)" text-anchor="middle">share of the runs</text>`,
  ];
}

function targetParts(wanted: number, sense: 'at most' | 'at least', x: Scale, y: Scale): string[] {
  const at = x(wanted);
  // Points to the side on which the target is met.
  const tip = sense === 'at most' ? -9 : 9;
  return [
    line([at, y(1)], [at, y(0)], `stroke="${targetColor}" stroke-dasharray="5 4"`),
    `<path d="M${coordinate(at)} ${coordinate(y(0.5) - 5)}l${String(tip)} 5l${String(-tip)} 5z" fill="${targetColor}"/>`,
  ];
}

function curveParts({ samples, color }: Curve, last: number, x: Scale, y: Scale): string[] {
  const sorted = samples.toSorted((a, b) => a - b);
  const shown = sorted.filter((value) => value <= last);
  const steps = shown.map((value, index) => `H${coordinate(x(value))}V${coordinate(y((index + 1) / sorted.length))}`);
  // From there on nothing changes, or it does where it is not seen.
  const path = `M${coordinate(x(0))} ${coordinate(y(0))}${steps.join('')}H${coordinate(x(last))}`;
  return [
    `<path d="${path}" fill="none" stroke="${color}" stroke-width="1.8"/>`,
    `<circle cx="${coordinate(x(quantile(samples, 0.5)))}" cy="${coordinate(y(0.5))}" r="4" fill="${color}"/>`,
  ];
}

function legend({ name, samples, color }: Curve, unit: string, last: number, row: number): string[] {
  const middle = legendTop + row * legendRow;
  const beyond = samples.filter((value) => value > last).length;
  const figures = `median ${shown(quantile(samples, 0.5))}, p90 ${shown(quantile(samples, 0.9))} ${unit}, ${String(samples.length)} runs`;
  return [
    line([left, middle], [left + 24, middle], `stroke="${color}" stroke-width="1.8"`),
    `<circle cx="${String(left + 12)}" cy="${String(middle)}" r="4" fill="${color}"/>`,
    text(
      left + 30,
      middle + 4,
      `${name}: ${figures}${beyond === 0 ? '' : `, ${String(beyond)} beyond`}`,
      'font-size="11"',
    ),
  ];
}

function targetLegend({ sense, ratio }: RatioTarget, wanted: number, unit: string, row: number): string[] {
  const middle = legendTop + row * legendRow;
  const sign = sense === 'at most' ? '≤' : '≥';
  return [
    line([left, middle], [left + 24, middle], `stroke="${targetColor}" stroke-dasharray="5 4"`),
    text(
      left + 30,
      middle + 4,
      `wanted: median ${sign} ${shown(wanted)} ${unit}, ${String(ratio)} × that of containerd`,
      `fill="${targetColor}" font-size="11"`,
    ),
  ];
}

type Point = readonly [x: number, y: number];

function line([x1, y1]: Point, [x2, y2]: Point, attributes: string): string {
  return `<line x1="${coordinate(x1)}" y1="${coordinate(y1)}" x2="${coordinate(x2)}" y2="${coordinate(y2)}" ${attributes}/>`;
}

function shown(value: number): string {
  return value.toFixed(value < 100 ? 1 : 0);
}

/** Fractions of small numbers have ends that nobody asked for. */
function shownTick(value: number): string {
  return String(Number(value.toPrecision(6)));
}
