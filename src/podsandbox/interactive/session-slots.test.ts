import { expect, test } from '@jest/globals';
import { newSandboxId } from '../ids.ts';
import { SessionSlots } from './session-slots.ts';

const never = new AbortController().signal;

test('each pod has its own; what is given back can be taken again', () => {
  const slots = new SessionSlots(2);
  const [one, other] = [newSandboxId(), newSandboxId()];
  const first = slots.take(one);
  slots.take(one);
  slots.take(other);
  expect(() => slots.take(one)).toThrow(`pod sandbox "${one}" has 2 streaming sessions already`);
  first[Symbol.dispose]();
  slots.take(one);
  expect(() => slots.take(one)).toThrow(expect.objectContaining({ kind: 'exhausted' }));
});

test('those that wait get their turns in order, unless they have gone', async () => {
  const slots = new SessionSlots(1);
  const id = newSandboxId();
  const got: string[] = [];
  const held = slots.take(id);
  const wait = async (name: string, signal = never): Promise<void> => {
    using slot = await slots.wait(id, signal);
    expect(slot).toBeDefined();
    got.push(name);
  };
  const leaving = new AbortController();
  const waiting = [wait('a'), wait('gone', leaving.signal), wait('b'), wait('c')];
  leaving.abort();
  await expect(waiting[1]).rejects.toMatchObject({ kind: 'cancelled' });
  expect(got).toEqual([]);
  held[Symbol.dispose]();
  await Promise.all([waiting[0], waiting[2], waiting[3]]);
  expect(got).toEqual(['a', 'b', 'c']);
  slots.take(id);
});

test('nobody waits without need', async () => {
  const slots = new SessionSlots(1);
  using slot = await slots.wait(newSandboxId(), never);
  expect(slot).toBeDefined();
  await expect(slots.wait(newSandboxId(), AbortSignal.abort())).resolves.toBeDefined();
});
