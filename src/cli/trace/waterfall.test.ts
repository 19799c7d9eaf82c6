import { expect, test } from '@jest/globals';
import { layout, shownTime } from './layout.ts';
import { type PodTrace, traceJson } from './pod-trace.ts';
import { waterfall } from './waterfall.ts';
import { ticks } from '../svg.ts';
import { waterfallSvg } from './waterfall-svg.ts';

const second = 1_000_000_000n;
const begin = 1_700_000_000n * second;
const container = { id: 'c'.repeat(64), name: 'web<1>', attempt: 0 };

const trace: PodTrace = {
  id: 'a'.repeat(64),
  name: 'web',
  namespace: 'default',
  attempt: 0,
  origin: 'pool',
  requests: [
    {
      request: 'RunPodSandbox',
      startedAt: begin,
      ms: 80,
      steps: [
        { name: 'claim', startMs: 0, ms: 10, depth: 0 },
        { name: 'vm.resume', startMs: 1, ms: 8, depth: 1 },
        { name: 'network', startMs: 10, ms: 70, depth: 0 },
      ],
    },
    { request: 'CreateContainer', startedAt: begin + 90_000_000n, ms: 10, steps: [], container },
    {
      request: 'StartContainer',
      startedAt: begin + 5n * second,
      ms: 20,
      steps: [
        { name: 'start in guest', startMs: 0, ms: 15, depth: 0 },
        { name: 'first log line', startMs: 0, ms: 60_000, depth: 0 },
      ],
      container,
    },
  ],
};

test('requests that follow each other share an axis; a pause begins another one', () => {
  const [first, second, ...more] = layout(trace);
  expect(more).toEqual([]);
  expect(first).toMatchObject({ idleMs: 0, totalMs: 100 });
  expect(first?.bars.map(({ label, depth, startMs }) => [label, depth, startMs])).toEqual([
    ['RunPodSandbox', 0, 0],
    ['claim', 1, 0],
    ['vm.resume', 2, 1],
    ['network', 1, 10],
    ['CreateContainer web<1>', 0, 90],
  ]);
  // What comes a minute later does not make the rest too small to see.
  expect(second).toMatchObject({ idleMs: 4_900, totalMs: 20 });
  expect(second?.bars.map(({ label, beyond }) => [label, beyond])).toEqual([
    ['StartContainer web<1>', false],
    ['start in guest', false],
    ['first log line', true],
  ]);
});

test('a first line that comes soon is on the axis', () => {
  const [section] = layout({
    ...trace,
    requests: [
      {
        request: 'StartContainer',
        startedAt: begin,
        ms: 20,
        steps: [{ name: 'first log line', startMs: 0, ms: 35, depth: 0 }],
      },
    ],
  });
  expect(section).toMatchObject({ totalMs: 35, bars: [{ beyond: false }, { beyond: false }] });
});

test('the waterfall in a terminal', () => {
  expect(waterfall(trace, 80).split('\n')).toEqual([
    'pod default/web (aaaaaaaaaaaaa), virtual machine from: pool',
    '',
    '                            begin       took',
    'RunPodSandbox              0.0 ms    80.0 ms  ▕██████████████████████████      ▏',
    '  claim                    0.0 ms    10.0 ms  ▕▓▓▓                             ▏',
    '    vm.resume              1.0 ms     8.0 ms  ▕▒▒▒                             ▏',
    '  network                 10.0 ms    70.0 ms  ▕   ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓      ▏',
    'CreateContainer web<1>    90.0 ms    10.0 ms  ▕                            ████▏',
    '',
    '4.90 s later',
    '                            begin       took',
    'StartContainer web<1>      0.0 ms    20.0 ms  ▕████████████████████████████████▏',
    '  start in guest           0.0 ms    15.0 ms  ▕▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓        ▏',
    '  first log line           0.0 ms    60.00 s  ▕▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓›▏',
    '',
  ]);
});

test('however narrow the terminal, there are bars', () => {
  expect(waterfall(trace, 10)).toMatch(/▕█{8} {2}▏/);
});

test('a pod of which nothing is known', () => {
  const none = { ...trace, requests: [] };
  expect(waterfall(none, 80)).toBe('pod default/web (aaaaaaaaaaaaa), virtual machine from: pool\n');
  expect(waterfallSvg(none)).toContain('</svg>');
});

test('the drawing has a bar for each, and no markup from outside', () => {
  const svg = waterfallSvg(trace);
  // The background is one, too.
  expect(svg.match(/<rect /g)).toHaveLength(1 + 8);
  expect(svg).toContain('CreateContainer web&lt;1&gt;');
  expect(svg).not.toContain('web<1>');
  expect(svg).not.toMatch(/NaN|undefined|Infinity|width="-/);
  expect(svg).not.toMatch(/(href|src|url\()/);
});

test('ticks are round and reach over the axis', () => {
  expect(ticks(100)).toEqual([0, 20, 40, 60, 80, 100]);
  expect(ticks(3_700)).toEqual([0, 1_000, 2_000, 3_000]);
  expect(ticks(0)).toEqual([0]);
});

test('JSON has times that other programs read', () => {
  const { requests } = JSON.parse(traceJson(trace)) as { requests: Record<string, unknown>[] };
  expect(requests[2]).toMatchObject({ startedAt: '2023-11-14T22:13:25.000Z', ms: 20, container: { name: 'web<1>' } });
});

test.each([
  [0, '0.0 ms'],
  [999.94, '999.9 ms'],
  [999.96, '1000.0 ms'],
  [4_123, '4.12 s'],
])('%d ms are shown as %s', (ms, text) => {
  expect(shownTime(ms)).toBe(text);
});
