import { link, mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { folderUsage } from './folder-usage.ts';

let base: string;

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'kelyfos-usage-'));
});

afterEach(async () => {
  await rm(base, { recursive: true });
});

test('blocks are counted, not sizes, and a file once whatever names it has', async () => {
  const [images, disks] = [join(base, 'images'), join(base, 'disks')];
  await mkdir(images);
  await mkdir(join(disks, 'one'), { recursive: true });
  await writeFile(join(images, 'image'), Buffer.alloc(100_000, 1));
  await link(join(images, 'image'), join(images, 'again'));
  await truncate(join(images, 'image'), 1 << 30);
  await link(join(images, 'image'), join(disks, 'one', 'slot0'));
  await writeFile(join(disks, 'one', 'scratch'), Buffer.alloc(50_000, 1));

  const ofImages = await folderUsage(images);
  expect(ofImages.inodes.size).toBe(1);
  expect(ofImages.bytes).toBeGreaterThanOrEqual(100_000n);
  expect(ofImages.bytes).toBeLessThan(1_000_000n);
  const ofDisks = await folderUsage(disks, ofImages.inodes);
  // The folder and the file of its own.
  expect(ofDisks.inodes.size).toBe(2);
  expect(ofDisks.bytes).toBeGreaterThanOrEqual(50_000n);
  expect(ofDisks.bytes).toBeLessThan(100_000n);
});

test('a folder that is not there takes nothing', async () => {
  expect(await folderUsage(join(base, 'none'))).toEqual({ bytes: 0n, inodes: new Set() });
});
