import { expect, test } from '@jest/globals';
import { UidPool } from './uid-pool.ts';

test('goes round before it gives an id again', () => {
  const pool = new UidPool({ first: 10, count: 3 });
  expect(pool.acquire()).toBe(10);
  pool.release(10);
  expect([pool.acquire(), pool.acquire(), pool.acquire()]).toEqual([11, 12, 10]);
});

test('never gives an id that is in use, and says when all are', () => {
  const pool = new UidPool({ first: 10, count: 3 });
  pool.reserve(11);
  expect([pool.acquire(), pool.acquire()]).toEqual([10, 12]);
  expect(() => pool.acquire()).toThrow('all 3 user ids');
  pool.release(11);
  expect(pool.acquire()).toBe(11);
});

test('root is never in the range', () => {
  expect(() => new UidPool({ first: 0, count: 3 })).toThrow('0');
});
