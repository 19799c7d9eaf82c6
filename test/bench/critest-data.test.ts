import { expect, test } from '@jest/globals';
import { readBenchmark } from './critest-data.ts';

const file = (durations: readonly (readonly number[])[]): string =>
  JSON.stringify({
    operationsNames: ['CreatePod', 'StopPod'],
    numParallel: 1,
    datapoints: durations.map((operationsDurationsNs, sampleIndex) => ({
      ...{ sampleIndex, startTime: 1, endTime: 2 },
      ...{ operationsDurationsNs, metaInfo: { podId: 'x' } },
    })),
  });

test('durations are told apart by operation, in milliseconds', () => {
  const samples = readBenchmark(
    file([
      [70_000_000, 1_500_000],
      [80_000_000, 2_500_000],
    ]),
  );
  expect(samples.entries()).toEqual([
    ['CreatePod', [70, 80]],
    ['StopPod', [1.5, 2.5]],
  ]);
});

test('a duration too few is an error', () => {
  expect(() => readBenchmark(file([[1]]))).toThrow('1 durations of 2 operations');
});
