import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { openRecords } from '../../src/podsandbox/records.ts';
import { Store } from '../../src/store/store.ts';
import { freeFolder, removeFolder } from './free-folder.ts';
import { leftBehind, type DaemonFolders } from './left-behind.ts';

let base: string;
let folders: DaemonFolders;

beforeEach(async () => {
  base = await freeFolder('left-behind');
  folders = { root: join(base, 'root'), state: join(base, 'state') };
});

afterEach(async () => {
  await removeFolder(base);
});

test('templates and images may stay', async () => {
  for (const path of ['state/vms', 'state/cni/results', 'state/templates/abc', 'root/vms', 'root/images/blobs']) {
    await mkdir(join(base, path), { recursive: true });
  }
  const store = Store.open(join(folders.root, 'state.lmdb'));
  openRecords(store);
  await store.close();
  expect(await leftBehind(folders)).toEqual([]);
});

test('names every file, address and record that belongs to a pod', async () => {
  for (const path of [
    'state/vms/0123456789abcdef',
    'state/netns',
    'state/cni/results',
    'state/secrets',
    'root/vms/d',
  ]) {
    await mkdir(join(base, path), { recursive: true });
  }
  for (const path of ['state/netns/0123456789abcdef', 'state/cni/results/a.json', 'state/secrets/auth.json']) {
    await writeFile(join(base, path), '');
  }
  const store = Store.open(join(folders.root, 'state.lmdb'));
  await openRecords(store).checkpoints.put('c', {
    sequence: 1n,
    position: { inode: 1n, size: 0 },
    pending: { stdout: new Uint8Array(), stderr: new Uint8Array() },
  });
  await store.close();
  expect(await leftBehind(folders, () => Promise.resolve(['10.0.0.2']))).toEqual([
    `file: ${folders.state}/vms/0123456789abcdef`,
    `file: ${folders.state}/netns/0123456789abcdef`,
    `file: ${folders.state}/cni/results/a.json`,
    `file: ${folders.state}/secrets/auth.json`,
    `file: ${folders.root}/vms/d`,
    'address: 10.0.0.2',
    'record: checkpoints/c',
  ]);
});
