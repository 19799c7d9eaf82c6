import { expect, test } from '@jest/globals';
import { CpuRates } from './cpu-rates.ts';

const second = 1_000_000_000n;

test('a rate is what was used since the last question', () => {
  const rates = new CpuRates();
  const subject = {};
  expect(rates.next(subject, second, 0n)).toBeUndefined();
  expect(rates.next(subject, 3n * second, second)).toBe(500_000_000n);
  expect(rates.next(subject, 4n * second, 3n * second)).toBe(2n * second);
});

test('questions right after each other get the same answer', () => {
  const rates = new CpuRates();
  const subject = {};
  rates.next(subject, 0n, 0n);
  rates.next(subject, second, second);
  expect(rates.next(subject, second + 1n, second)).toBe(second);
  expect(rates.next(subject, second - 1n, second)).toBe(second);
  expect(rates.next(subject, 2n * second, second)).toBe(0n);
});

test('subjects do not mix, and a counter that goes back starts anew', () => {
  const rates = new CpuRates();
  const [a, b] = [{}, {}];
  rates.next(a, 0n, 5n);
  expect(rates.next(b, second, 5n)).toBeUndefined();
  expect(rates.next(a, second, 4n)).toBeUndefined();
  expect(rates.next(a, 2n * second, 4n + second)).toBe(second);
});
