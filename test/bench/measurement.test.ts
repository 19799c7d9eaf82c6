import { expect, test } from '@jest/globals';
import { assess } from './measurement.ts';

test('the median meets a target, not the slowest run', () => {
  const target = { sense: 'at most', value: 10 } as const;
  expect(assess({ name: 'a', unit: 'ms', samples: [9, 10, 50], target }).met).toBe(true);
  expect(assess({ name: 'a', unit: 'ms', samples: [1, 11, 12], target }).met).toBe(false);
});

test('a factor has to reach its target', () => {
  const target = { sense: 'at least', value: 20 } as const;
  expect(assess({ name: 'a', unit: 'times', samples: [20], target }).met).toBe(true);
  expect(assess({ name: 'a', unit: 'times', samples: [19.9], target }).met).toBe(false);
});

test('without a target nothing is met or missed', () => {
  expect(assess({ name: 'a', unit: 'ms', samples: [1] })).not.toHaveProperty('met');
});
