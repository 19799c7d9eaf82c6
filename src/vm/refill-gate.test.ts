import { expect, test } from '@jest/globals';
import { RefillGate } from './refill-gate.ts';

const signal = new AbortController().signal;

function clocked(concurrency = 1): { gate: RefillGate; time: { now: number }; slept: number[] } {
  const time = { now: 0 };
  const slept: number[] = [];
  const gate = new RefillGate({
    concurrency,
    quietMs: 100,
    maxYieldMs: 1_000,
    now: () => time.now,
    sleep: async (ms) => {
      slept.push(ms);
      time.now += ms;
    },
  });
  return { gate, time, slept };
}

test('a refill runs at once when nobody claims', async () => {
  const { gate, slept } = clocked();
  await expect(gate.refilling(async () => 'done', signal)).resolves.toBe('done');
  expect(slept).toEqual([]);
});

test('a refill waits until the last claim has been over for a while', async () => {
  const { gate, time, slept } = clocked();
  await gate.claiming(async () => undefined);
  time.now += 30;
  await gate.refilling(async () => undefined, signal);
  expect(slept).toEqual([70]);
});

test('a claim without end delays a refill only so long', async () => {
  const { gate, time } = clocked();
  const claim = Promise.withResolvers<undefined>();
  const claiming = gate.claiming(() => claim.promise);
  await gate.refilling(async () => undefined, signal);
  expect(time.now).toBe(1_000);
  claim.resolve(undefined);
  await claiming;
});

test('a claim never waits for refills', async () => {
  const { gate } = clocked();
  const work = Promise.withResolvers<undefined>();
  const refills = [1, 2, 3].map(() => gate.refilling(() => work.promise, signal));
  await expect(gate.claiming(async () => 'vm')).resolves.toBe('vm');
  work.resolve(undefined);
  await Promise.all(refills);
});

test('no more refills at once than allowed, whatever fails', async () => {
  const { gate } = clocked(2);
  let [running, most] = [0, 0];
  const work = async (index: number): Promise<void> => {
    most = Math.max(most, ++running);
    await Promise.resolve();
    running--;
    if (index % 2 === 0) throw new Error('fails');
  };
  await Promise.allSettled(Array.from({ length: 9 }, (_, index) => gate.refilling(() => work(index), signal)));
  expect(most).toBe(2);
  await expect(gate.refilling(async () => 'still works', signal)).resolves.toBe('still works');
});
