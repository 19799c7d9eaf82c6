import { expect, test } from '@jest/globals';
import { together } from './together.ts';

test('all results, in their order', async () => {
  const work = [Promise.resolve(1), Promise.resolve('two')] as const;
  expect(await together<[number, string]>(new AbortController(), work)).toEqual([1, 'two']);
});

test('the first failure stops the others, is waited for them and told', async () => {
  const stop = new AbortController();
  let hasEnded = false;
  const other = Promise.withResolvers<never>();
  stop.signal.addEventListener('abort', () => {
    setImmediate(() => {
      hasEnded = true;
      other.reject(new Error('stopped'));
    });
  });
  const work = [other.promise, Promise.reject(new Error('first'))] as const;
  await expect(together<[never, never]>(stop, work)).rejects.toThrow('first');
  expect(hasEnded).toBe(true);
});
