import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { z } from 'zod';
import { Store } from './store.ts';

const schema = z.object({
  at: z.bigint(),
  data: z.custom<Uint8Array>((value) => ArrayBuffer.isView(value)),
  name: z.string(),
});

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-store-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

test('gives back bigints and bytes, also after it was opened again', async () => {
  const path = join(folder, 'state.lmdb');
  const store = Store.open(path);
  await store.table('things', 1, schema).put('a', { at: 2n ** 62n, data: Buffer.from('héllo'), name: 'x' });
  await store.close();
  const again = Store.open(path);
  const table = again.table('things', 1, schema);
  const record = table.get('a');
  expect(record?.at).toBe(2n ** 62n);
  expect(Buffer.from(record?.data ?? []).toString()).toBe('héllo');
  expect(table.entries().map(({ key }) => key)).toEqual(['a']);
  await table.remove('a');
  expect(table.get('a')).toBeUndefined();
  await again.close();
});

test('names a record that it cannot read', async () => {
  const store = Store.open(join(folder, 'state.lmdb'));
  await store.table('things', 1, schema).put('a', { at: 1n, data: new Uint8Array(), name: 'x' });
  expect(() => store.table('things', 2, schema).get('a')).toThrow(
    'record things/a cannot be read: version 1 where this daemon knows 2',
  );
  expect(() => store.table('things', 1, z.object({ other: z.string() })).get('a')).toThrow(
    /record things\/a cannot be read/,
  );
  await store.close();
});
