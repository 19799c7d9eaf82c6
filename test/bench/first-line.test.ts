import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { FirstLine } from './first-line.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'first-line-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

test('sees the first whole line of a file that was not there', async () => {
  const file = join(folder, 'log');
  using first = new FirstLine(folder, file, 10_000);
  const before = performance.now();
  await appendFile(file, 'half');
  await appendFile(file, ' and whole\nsecond\n');
  const { line, at } = await first.seen;
  expect(line).toBe('half and whole');
  expect(at).toBeGreaterThanOrEqual(before);
});

test('gives up in the end, naming the file', async () => {
  const file = join(folder, 'never');
  using first = new FirstLine(folder, file, 1);
  await expect(first.seen).rejects.toThrow(`${file}: no line within 1 ms`);
});
