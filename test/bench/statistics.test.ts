import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { quantile, summarize } from './statistics.ts';

test('the median of an odd number of samples is the one in the middle, whatever their order', () => {
  expect(quantile([30, 1, 2], 0.5)).toBe(2);
});

test('the median of an even number of samples lies half way', () => {
  expect(quantile([4, 1, 2, 3], 0.5)).toBe(2.5);
});

test('a summary of ten samples', () => {
  const samples = [10, 9, 8, 7, 6, 5, 4, 3, 2, 1];
  expect(summarize(samples)).toEqual({ count: 10, min: 1, p50: 5.5, p90: 9.1, max: 10 });
});

test('one sample is all of its summary', () => {
  expect(summarize([7])).toEqual({ count: 1, min: 7, p50: 7, p90: 7, max: 7 });
});

test('no samples have no summary', () => {
  expect(() => summarize([])).toThrow('no samples');
});

test('quantiles never leave the samples and never fall', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1 }), (samples) => {
      const { min, p50, p90, max } = summarize(samples);
      const slack = 1e-9 * max;
      return min <= p50 + slack && p50 <= p90 + slack && p90 <= max + slack;
    }),
  );
});
