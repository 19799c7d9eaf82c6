import { expect, test } from '@jest/globals';
import { KeyedMutex } from '../platform/keyed-mutex.ts';
import { withLocks } from './locks.ts';

const never = new AbortController().signal;
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('work with a common key goes one after the other, in whatever order the keys are given', async () => {
  const mutex = new KeyedMutex();
  let running = 0;
  let most = 0;
  const work = async (): Promise<void> => {
    running += 1;
    most = Math.max(most, running);
    await tick();
    running -= 1;
  };
  const keys = [
    ['a', 'b'],
    ['b', 'a'],
    ['b', 'c', 'b'],
    ['c', 'a', 'b'],
  ];
  await Promise.all(keys.map((k) => withLocks(mutex, k, 'work', never, work)));
  expect(most).toBe(1);
});

test('who gives up while waiting is let go at once and holds up nobody', async () => {
  const mutex = new KeyedMutex();
  const held = Promise.withResolvers<undefined>();
  const first = withLocks(mutex, ['a'], 'first', never, () => held.promise);
  const impatient = new AbortController();
  let ran = false;
  const second = withLocks(mutex, ['a', 'b'], 'second', impatient.signal, () => {
    ran = true;
    return Promise.resolve();
  });
  const third = withLocks(mutex, ['b', 'a'], 'third', never, () => Promise.resolve('done'));
  await tick();
  impatient.abort();
  await expect(second).rejects.toMatchObject({ kind: 'cancelled' });
  held.resolve(undefined);
  await first;
  expect(await third).toBe('done');
  expect(ran).toBe(false);
});

test('work that has begun is waited for', async () => {
  const mutex = new KeyedMutex();
  const cancelled = new AbortController();
  const work = withLocks(mutex, ['a'], 'work', cancelled.signal, async () => {
    await tick();
    return 'cleaned up';
  });
  await tick();
  cancelled.abort();
  expect(await work).toBe('cleaned up');
});
