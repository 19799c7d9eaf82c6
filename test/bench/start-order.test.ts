import { expect, test } from '@jest/globals';
import { mostAtOnce, overtaken } from './start-order.ts';

const pod = (number: number, admittedMs: number, endedMs: number) => ({ number, admittedMs, endedMs });

test('who came first and had his turn later was overtaken', () => {
  expect(overtaken([pod(0, 100, 300), pod(1, 102, 300), pod(2, 101, 300), pod(3, 300, 400)])).toEqual([]);
  expect(overtaken([pod(0, 300, 400), pod(1, 100, 200), pod(2, 200, 300)])).toEqual([0]);
});

test('how many were at work at one moment', () => {
  expect(mostAtOnce([])).toBe(0);
  expect(mostAtOnce([pod(0, 0, 100), pod(1, 0, 200), pod(2, 100, 300), pod(3, 203, 400)])).toBe(2);
  expect(mostAtOnce([pod(0, 0, 500), pod(1, 100, 200), pod(2, 150, 300)])).toBe(3);
});
