import { link, mkdir, mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { FailPoints } from './testing/fail-points.ts';
import { FakeMachine } from './testing/fake-host.ts';
import { imageSlotCount } from './qemu/devices/image-slots.ts';
import { VmDisks } from './vm-disks.ts';

const slotBytes = 4096;
const signal = new AbortController().signal;
let folder: string;
let disks: string;
let image: string;
let fail: FailPoints;
let machine: FakeMachine;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-disks-'));
  disks = join(folder, 'disks');
  await mkdir(disks);
  image = join(folder, 'image');
  await writeFile(image, 'erofs');
  await truncate(image, slotBytes);
  fail = new FailPoints();
  machine = new FakeMachine(fail, 4_194_305, 'running');
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

test('links the image and fills the first free slot', async () => {
  const on = VmDisks.none(machine, disks, slotBytes);
  expect(await on.attach(image, signal)).toBe('slot0');
  expect(await on.attach(image, signal)).toBe('slot1');
  expect((await stat(join(disks, 'slot0.img'))).ino).toBe((await stat(image)).ino);
  expect([...machine.slots]).toEqual([
    [0, 'slot0.img'],
    [1, 'slot1.img'],
  ]);
  await on.detach('slot0');
  expect(await readdir(disks)).toEqual(['slot1.img']);
  expect(await on.attach(image, signal)).toBe('slot0');
});

test('a disk that was left is the next one’s who attaches the same file, and nobody else’s', async () => {
  const on = VmDisks.none(machine, disks, slotBytes);
  const other = join(folder, 'other');
  await writeFile(other, 'erofs');
  await truncate(other, slotBytes);
  on.leave(image, await on.attach(image, signal));
  expect(await on.attach(other, signal)).toBe('slot1');
  expect(await on.attach(image, signal)).toBe('slot0');
  expect(await on.attach(image, signal)).toBe('slot2');
  await on.detach('slot0');
  expect(await on.attach(image, signal)).toBe('slot0');
});

test('what exceeds the slots is hot-added, all at once', async () => {
  const on = VmDisks.none(machine, disks, slotBytes);
  const serials = await Promise.all(Array.from({ length: imageSlotCount + 2 }, () => on.attach(image, signal)));
  expect(serials.slice(0, imageSlotCount)).toEqual(
    Array.from({ length: imageSlotCount }, (_, slot) => `slot${String(slot)}`),
  );
  expect(serials.slice(imageSlotCount)).toEqual(['disk-1', 'disk-2']);
  await on.detach('disk-1');
  expect([...machine.hotAdded.keys()]).toEqual(['disk-2']);
  expect(await readdir(disks)).not.toContain('disk-1.img');
});

test('block devices are hot-added under serials of their own, and found again', async () => {
  const on = VmDisks.none(machine, disks, slotBytes);
  expect(await on.attachBlockDevice('/dev/loop0', true, signal)).toBe('block-1');
  expect(await on.attachBlockDevice('/dev/loop0', false, signal)).toBe('block-2');
  expect([...machine.hotAdded.values()]).toEqual(['/dev/loop0 rw', '/dev/loop0 ro']);
  const later = await VmDisks.of(machine, disks, slotBytes);
  await later.detach('block-1');
  expect([...machine.hotAdded.keys()]).toEqual(['block-2']);
  expect(await later.attachBlockDevice('/dev/loop1', true, signal)).toBe('block-1');
  fail.failAt(0);
  await expect(later.attachBlockDevice('/dev/loop2', true, signal)).rejects.toThrow(/attach \/dev\/loop2 as block-3: /);
});

test('an image of another size than a slot is hot-added', async () => {
  await truncate(image, slotBytes * 2);
  expect(await VmDisks.none(machine, disks, slotBytes).attach(image, signal)).toBe('disk-1');
});

test('nothing is left of an attach that fails', async () => {
  const on = VmDisks.none(machine, disks, slotBytes);
  fail.failAt(0);
  await expect(on.attach(image, signal)).rejects.toThrow(/slot0.*injected/);
  expect(await readdir(disks)).toEqual([]);
  expect(await on.attach(image, signal)).toBe('slot0');
});

test('a rest of an earlier link does not matter', async () => {
  await writeFile(join(folder, 'other'), '');
  await link(join(folder, 'other'), join(disks, 'slot0.img'));
  await VmDisks.none(machine, disks, slotBytes).attach(image, signal);
  expect((await stat(join(disks, 'slot0.img'))).size).toBe(slotBytes);
});

test('unknown serials can be detached', async () => {
  await VmDisks.none(machine, disks, slotBytes).detach('slot5');
  await VmDisks.none(machine, disks, slotBytes).detach('disk-1');
});

test('a later daemon goes on where the machine is', async () => {
  const before = VmDisks.none(machine, disks, slotBytes);
  await before.attach(image, signal);
  const after = await VmDisks.of(machine, disks, slotBytes);
  expect(await after.attach(image, signal)).toBe('slot1');
  await after.detach('slot0');
  expect([...machine.slots.keys()]).toEqual([1]);
});

test.each([
  ['a missing file', 'missing', 'not-found'],
  ['a folder', '.', 'unimplemented'],
])('%s is an error that names it', async (_what, name, kind) => {
  const source = join(folder, name);
  const attaching = VmDisks.none(machine, disks, slotBytes).attach(source, signal);
  await expect(attaching).rejects.toMatchObject({ kind });
  await expect(attaching).rejects.toThrow(source);
});

test('an image on another file system is an error that says so', async () => {
  const elsewhere = '/dev/shm';
  if ((await stat(elsewhere)).dev === (await stat(disks)).dev) return;
  const source = join(elsewhere, `kelyfos-test-${String(process.pid)}`);
  await writeFile(source, '');
  try {
    await expect(VmDisks.none(machine, disks, slotBytes).attach(source, signal)).rejects.toThrow('another file system');
  } finally {
    await rm(source);
  }
});
