import { PassThrough, Readable } from 'node:stream';
import { expect, test } from '@jest/globals';
import type { TerminalSize } from '../model.ts';
import { ClientInput, type InputPart } from './client-input.ts';

async function all(input: ClientInput): Promise<InputPart[]> {
  const parts: InputPart[] = [];
  for await (const part of input) parts.push(part);
  return parts;
}

const data = (text: string): InputPart => ({ kind: 'data', data: Buffer.from(text) });

test('data, then its end', async () => {
  const stream = new PassThrough();
  const input = new ClientInput({ data: stream });
  const parts = all(input);
  stream.write('a');
  await new Promise(setImmediate);
  stream.end('b');
  expect(await parts).toEqual([data('a'), data('b'), { kind: 'eof' }]);
  expect(input.eof).toBe(true);
});

test('without data and sizes there is nothing', async () => {
  expect(await all(new ClientInput({ data: undefined }))).toEqual([]);
});

test('goes on for sizes after the end of the data', async () => {
  const sizes = new PassThrough({ objectMode: true });
  const input = new ClientInput({ data: Readable.from([]), sizes: sizes as AsyncIterable<TerminalSize> });
  const parts = all(input);
  await new Promise(setImmediate);
  sizes.end({ width: 80, height: 24 });
  expect(await parts).toEqual([{ kind: 'eof' }, { kind: 'size', size: { width: 80, height: 24 } }]);
});

test('a stream that breaks off has no end of data', async () => {
  const stream = new PassThrough().on('error', () => undefined);
  const input = new ClientInput({ data: stream });
  const parts = all(input);
  stream.write('a');
  await new Promise(setImmediate);
  stream.destroy(new Error('gone'));
  await new Promise(setImmediate);
  input.end();
  expect(await parts).toEqual([data('a')]);
  expect(input.eof).toBe(false);
});

test('nothing is read before it is asked for', async () => {
  const stream = new PassThrough({ highWaterMark: 10 });
  const input = new ClientInput({ data: stream });
  const parts = input[Symbol.asyncIterator]();
  let open = true;
  while (open) open = stream.write('0123456789');
  await new Promise(setImmediate);
  expect(stream.readableLength + stream.writableLength).toBeGreaterThan(0);
  expect(stream.writableNeedDrain).toBe(true);
  expect(await parts.next()).toMatchObject({ value: { kind: 'data' } });
  input.end();
});
