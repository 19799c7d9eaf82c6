import { expect, test } from '@jest/globals';
import { formatResults, formatSteps } from './report.ts';
import { Samples } from './samples.ts';

test('a missed target is said twice: in its line and in the last one', () => {
  const text = formatResults([
    { name: 'fast', unit: 'ms', samples: [1, 2, 3], target: { sense: 'at most', value: 2 } },
    { name: 'factor', unit: 'times', samples: [10], target: { sense: 'at least', value: 20 } },
    { name: 'free', unit: 'MB', samples: [5, 5] },
  ]);
  expect(text.split('\n').map((line) => line.trimEnd())).toEqual([
    '         p50  p90  unit   runs  target',
    '------  ----  ---  -----  ----  ------  ------',
    'fast     2.0  2.8  ms        3    <= 2  met',
    'factor  10.0       times         >= 20  MISSED',
    'free     5.0  5.0  MB        2',
    '',
    '1 of 2 targets missed (by the median): factor',
  ]);
});

test('steps come in the order in which they were taken', () => {
  const steps = new Samples();
  for (const [name, ms] of [
    ['claim', 10],
    ['network', 200],
    ['claim', 20],
  ] as const)
    steps.add(name, ms);
  expect(formatSteps('RunPodSandbox', steps)).toBe(
    [
      'RunPodSandbox   p50   p90  unit',
      '-------------  ----  ----  ----',
      'claim          15.0  19.0  ms',
      'network         200   200  ms',
    ].join('\n'),
  );
});
