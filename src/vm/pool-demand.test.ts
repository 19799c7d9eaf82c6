import { expect, test } from '@jest/globals';
import { PoolDemand } from './pool-demand.ts';

function clocked(
  floor: number,
  ceiling: number,
): { demand: PoolDemand; claim: (times?: number) => void; pass: (ms: number) => void } {
  let now = 1_000;
  const demand = new PoolDemand({ floor, ceiling, now: () => now });
  const claim = (times = 1): void => {
    for (let time = 0; time < times; time += 1) demand.claimed();
  };
  return { demand, claim, pass: (ms) => (now += ms) };
}

const seconds = 1_000;
const minutes = 60_000;

test('without claims it is the floor', () => {
  expect(clocked(2, 8).demand.target).toBe(2);
  expect(clocked(0, 8).demand.target).toBe(0);
});

test('claims that come one by one are served by the floor', () => {
  const { demand, claim, pass } = clocked(2, 8);
  for (let pod = 0; pod < 50; pod += 1) {
    claim();
    pass(10 * seconds);
  }
  expect(demand.target).toBe(2);
});

test('a burst makes the pool ready for another one like it, up to the ceiling', () => {
  const { demand, claim, pass } = clocked(2, 8);
  claim(3);
  pass(6 * seconds);
  claim(2);
  expect(demand.target).toBe(5);
  claim(40);
  expect(demand.target).toBe(8);
});

test('a burst is forgotten after ten minutes, and then what came since counts', () => {
  const { demand, claim, pass } = clocked(1, 10);
  claim(8);
  pass(5 * minutes);
  claim(3);
  pass(5 * minutes - 1);
  expect(demand.target).toBe(8);
  pass(1);
  expect(demand.target).toBe(3);
  pass(5 * minutes);
  expect(demand.target).toBe(1);
});

test('a burst that comes again is remembered from its last time on', () => {
  const { demand, claim, pass } = clocked(0, 10);
  for (let burst = 0; burst < 4; burst += 1) {
    claim(4);
    pass(9 * minutes);
  }
  expect(demand.target).toBe(4);
  pass(minutes);
  expect(demand.target).toBe(0);
});

test('a fixed pool stays as it is', () => {
  const { demand, claim } = clocked(3, 0);
  claim(20);
  expect(demand.target).toBe(3);
});
