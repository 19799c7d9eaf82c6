import { expect, test } from '@jest/globals';
import { OutputTap, type TappedOutput } from './output-tap.ts';

const both = new Set(['stdout', 'stderr'] as const);
const never = new AbortController().signal;

const out = (text: string): TappedOutput => ({ channel: 'stdout', data: Buffer.from(text) });

async function textOf(tap: OutputTap): Promise<string> {
  let text = '';
  for await (const { data } of tap) text += Buffer.from(data).toString();
  return text;
}

test('hands everything on in order, and ends after the last of it', async () => {
  const tap = new OutputTap({ channels: both });
  const reading = textOf(tap);
  tap.push(out('a'));
  await Promise.resolve();
  tap.push({ channel: 'stderr', data: Buffer.from('b') });
  tap.push(out('c'));
  tap.end();
  tap.push(out('too late'));
  expect(await reading).toBe('abc');
});

test('keeps nothing of channels that are not wanted', async () => {
  const tap = new OutputTap({ channels: new Set(['stderr'] as const), maxBytes: 1 });
  tap.push(out('much'));
  expect(tap.isFull).toBe(false);
  tap.end();
  expect(await textOf(tap)).toBe('');
});

test('is full until something is taken', async () => {
  const tap = new OutputTap({ channels: both, maxBytes: 2 });
  tap.push(out('ab'));
  expect(tap.isFull).toBe(true);
  const room = tap.room(never);
  const reader = tap[Symbol.asyncIterator]();
  await reader.next();
  await room;
  expect(tap.isFull).toBe(false);
});

test('a reader that takes nothing loses it, and who waits for room goes on', async () => {
  const tap = new OutputTap({ channels: both, maxBytes: 2, patienceMs: 5 });
  tap.push(out('abc'));
  await tap.room(never);
  expect(tap.isFull).toBe(false);
  await expect(textOf(tap)).rejects.toMatchObject({
    kind: 'exhausted',
    message: 'the client took nothing for 0.005 s while 3 bytes waited for it',
  });
});

test('nobody waits for room once it has ended or the wait is called off', async () => {
  const ended = new OutputTap({ channels: both, maxBytes: 1 });
  ended.push(out('a'));
  const room = ended.room(never);
  ended.end();
  await room;
  const stopped = new OutputTap({ channels: both, maxBytes: 1 });
  stopped.push(out('a'));
  const stop = new AbortController();
  const stopping = stopped.room(stop.signal);
  stop.abort();
  await stopping;
  expect(stopped.isFull).toBe(true);
});
