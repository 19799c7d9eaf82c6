import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { checkHost, findProgram } from './host-checks.ts';
import { loadConfig } from './load.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-host-'));
  await mkdir(join(folder, 'guest'));
  for (const name of ['qemu', 'jailer', 'skopeo', 'mkfs.erofs', 'unpacker', 'networker'])
    await writeFile(join(folder, name), '#!/bin/sh\n', { mode: 0o755 });
  for (const name of ['vmlinux', 'initramfs', 'guest.json']) await writeFile(join(folder, 'guest', name), '');
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

async function check(change: Record<string, string> = {}): Promise<readonly string[]> {
  const values = {
    qemu: join(folder, 'qemu'),
    jailer: join(folder, 'jailer'),
    skopeo: join(folder, 'skopeo'),
    mkfs: join(folder, 'mkfs.erofs'),
    unpacker: join(folder, 'unpacker'),
    networker: join(folder, 'networker'),
    guest: join(folder, 'guest'),
    ...change,
  };
  const path = join(folder, 'config.toml');
  await writeFile(
    path,
    `[vm]\nqemu = "${values.qemu}"\njailer = "${values.jailer}"\nguest = "${values.guest}"
[cni]\nnetworker = "${values.networker}"
[images]\nskopeo = "${values.skopeo}"\nmkfs_erofs = "${values.mkfs}"\nunpacker = "${values.unpacker}"\n${change['images'] ?? ''}`,
  );
  return (await checkHost(await loadConfig(path))).map(({ key, text }) => `${key}: ${text}`.replaceAll(folder, ''));
}

test('nothing to say when everything is there', async () => {
  expect(await check()).toEqual([]);
});

test('says what is missing and where it comes from, all at once', async () => {
  await rm(join(folder, 'guest', 'initramfs'));
  await writeFile(join(folder, 'plain'), '', { mode: 0o644 });
  expect(
    await check({
      qemu: 'no-such-program',
      jailer: join(folder, 'plain'),
      images: 'policy = "/no/such/policy.json"\nregistries_conf = "/no/such/registries.conf"',
    }),
  ).toEqual([
    'vm.qemu: no program "no-such-program" in PATH (install the package qemu-system-x86)',
    'vm.jailer: no program "/plain" (build it from jailer/)',
    'vm.guest: "/guest" is not a guest image, it has no initramfs (guest/image/build makes one)',
    'images.registries_conf: cannot read "/no/such/registries.conf"',
    'images.policy: cannot read "/no/such/policy.json"',
  ]);
});

test('programs are looked for in the absolute folders of PATH, in order', async () => {
  await mkdir(join(folder, 'second'));
  await writeFile(join(folder, 'second', 'qemu'), '', { mode: 0o755 });
  expect(await findProgram('qemu', `relative:/no/such:${join(folder, 'second')}:${folder}`)).toBe(
    join(folder, 'second', 'qemu'),
  );
  expect(await findProgram('guest', folder)).toBeUndefined();
});
