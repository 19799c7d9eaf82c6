import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { ImageIndex, type ImageRecord } from './image-index.ts';

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-index-'));
  path = join(folder, 'index.json');
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const digest = (digit: string): string => `sha256:${digit.repeat(64)}`;
const record = (digit: string, more: Partial<ImageRecord> = {}): ImageRecord => ({
  ...{ id: digest(digit), tags: [], digests: [], layers: [digest('f')], size: 2n ** 60n },
  ...more,
});

async function opened(): Promise<ImageIndex> {
  const index = new ImageIndex(path);
  await index.open();
  return index;
}

test('what is put is there, also after a restart', async () => {
  const index = await opened();
  expect(index.all()).toEqual([]);
  await index.put(record('1', { tags: ['a:1'], digests: ['a@x'] }));
  for (const i of [index, await opened()]) {
    expect(i.get(digest('1'))).toEqual(record('1', { tags: ['a:1'], digests: ['a@x'] }));
    expect(i.byName('a:1')?.id).toBe(digest('1'));
    expect(i.byName('a@x')?.id).toBe(digest('1'));
    expect(i.byName('a:2')).toBeUndefined();
  }
});

test('names add up; a tag is of one image only', async () => {
  const index = await opened();
  await index.put(record('1', { tags: ['a:1', 'a:2'], digests: ['a@x'] }));
  await index.put(record('1', { tags: ['b:1'], digests: ['a@x', 'b@x'] }));
  await index.put(record('2', { tags: ['a:1'], digests: ['a@y'] }));
  expect(index.get(digest('1'))).toMatchObject({ tags: ['a:2', 'b:1'], digests: ['a@x', 'b@x'] });
  expect(index.byName('a:1')?.id).toBe(digest('2'));
});

test('changes at the same time all happen; what is deleted is gone', async () => {
  const index = await opened();
  await Promise.all(['1', '2', '3', '4', '5'].map((digit) => index.put(record(digit))));
  await Promise.all([index.delete(digest('3')), index.delete(digest('9'))]);
  expect((await opened()).all().map(({ id }) => id)).toEqual(['1', '2', '4', '5'].map(digest));
});

test('a change that cannot be written is not seen, and the next one is', async () => {
  const index = await opened();
  await rm(folder, { recursive: true });
  await expect(index.put(record('1'))).rejects.toThrow('ENOENT');
  expect(index.all()).toEqual([]);
  await mkdir(folder);
  await index.put(record('2'));
  expect(index.all()).toHaveLength(1);
});

test.each(['{', '{"version":2,"images":[]}', '{"version":1,"images":[{"id":"x"}]}'])(
  '%s is not read as an index',
  async (text) => {
    await writeFile(path, text);
    await expect(opened()).rejects.toThrow(path);
    expect(await readFile(path, 'utf8')).toBe(text);
  },
);
