import { expect, test } from '@jest/globals';
import { poolTable } from './pool-table.ts';

const one = {
  className: 'default',
  idle: 2,
  outdated: 0,
  size: 2,
  floor: 2,
  ceiling: 2,
  hits: 120,
  misses: 3,
  agesMs: [130_400, 900],
  template: 'ready',
};

test('a line for each class, and why all are empty', () => {
  const ages = [10_000_000, 400_000, 5_000, 4_000, 3_000];
  const grown = { ...one, className: 'big', idle: 5, outdated: 1, size: 0, ceiling: 12, agesMs: ages };
  const classes = [one, grown, { ...one, className: 'new', idle: 0, hits: 0, agesMs: [], template: 'making' }];
  expect(poolTable({ classes, memoryShortage: '90 MiB available, 1024 MiB wanted' }).split('\n')).toEqual([
    'CLASS    TEMPLATE  IDLE       TARGET  RANGE  HITS  MISSES  AGES',
    'default  ready     2          2       2      120   3       2m 0s',
    'big      ready     5 (1 old)  0       2-12   120   3       2h ... 3s',
    'new      making    0          2       2      0     3',
    '',
    'memory is short, pools shrink: 90 MiB available, 1024 MiB wanted',
    '',
  ]);
});

test('a daemon without pools', () => {
  expect(poolTable({ classes: [] })).toBe('CLASS  TEMPLATE  IDLE  TARGET  RANGE  HITS  MISSES  AGES\n');
});
