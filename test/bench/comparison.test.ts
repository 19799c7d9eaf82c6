import { expect, test } from '@jest/globals';
import { formatComparisons, judge, type Comparison } from './comparison.ts';

const starts: Comparison = {
  name: 'start',
  unit: 'ms',
  own: [90, 100, 110],
  peer: [100, 200, 300],
  target: { sense: 'at most', ratio: 0.5 },
};

test('medians are divided, and the target counts as met when it is just reached', () => {
  expect(judge(starts)).toMatchObject({ ownP50: 100, peerP50: 200, ratio: 0.5, met: true });
  expect(judge({ ...starts, target: { sense: 'at most', ratio: 0.49 } }).met).toBe(false);
  expect(judge({ ...starts, target: { sense: 'at least', ratio: 0.6 } }).met).toBe(false);
});

test('the last line names what was missed', () => {
  const missed: Comparison = { ...starts, name: 'speed', unit: 'MB/s', target: { sense: 'at least', ratio: 1 } };
  const lines = formatComparisons([starts, missed]).split('\n');
  expect(lines.at(-1)).toBe('1 of 2 targets missed (by the median): speed');
  expect(lines.find((line) => line.startsWith('start'))).toMatch(/100 +108 +200 +280 +ms +0\.50 +<= 0\.5 +met/);
});

test('a figure without a target is neither met nor missed', () => {
  const free: Comparison = { ...starts, name: 'free', target: undefined };
  expect(judge(free).met).toBeUndefined();
  expect(formatComparisons([free])).toMatch(/free .* 0\.50$/);
  expect(formatComparisons([starts, free]).split('\n').at(-1)).toBe('all 1 targets met (by the median)');
});
