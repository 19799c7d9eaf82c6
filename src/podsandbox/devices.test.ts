import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { resolveDevices } from './devices.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-devices-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

const asked = (
  hostPath: string,
  permissions = 'rwm',
  containerPath = '/dev/x',
): Parameters<typeof resolveDevices>[0] => [{ hostPath, containerPath, permissions }];

test('a device without hardware is the guest’s own, whatever its name', async () => {
  await symlink('/dev/null', join(folder, 'link'));
  expect(await resolveDevices(asked(join(folder, 'link'), ''))).toEqual([
    { kind: 'guest', guestPath: '/dev/null', containerPath: '/dev/x', access: 'rwm', uid: 0, gid: 0, mode: 0o666 },
  ]);
});

test('a folder stands for the devices in it', async () => {
  await symlink('/dev/null', join(folder, 'b'));
  await symlink('/dev/zero', join(folder, 'a'));
  await writeFile(join(folder, 'readme'), '');
  const found = await resolveDevices(asked(folder, 'r', '/dev/all'));
  expect(found.map(({ containerPath, access }) => [containerPath, access])).toEqual([
    ['/dev/all/a', 'r'],
    ['/dev/all/b', 'r'],
  ]);
});

test('what is no device, not there, or hardware is an error that names it', async () => {
  await writeFile(join(folder, 'file'), '');
  await expect(resolveDevices(asked(join(folder, 'file')))).rejects.toMatchObject({
    kind: 'invalid',
    message: `device "${join(folder, 'file')}" is neither a device nor a folder of devices`,
  });
  await expect(resolveDevices(asked('/dev/nvidia0'))).rejects.toMatchObject({
    kind: 'not-found',
    message: expect.stringContaining('device "/dev/nvidia0"') as unknown,
  });
  await expect(resolveDevices(asked('/dev/ptmx'))).rejects.toMatchObject({
    kind: 'failed-precondition',
    message: expect.stringMatching(/^device "\/dev\/ptmx" \(character device 5:2\): .*host runtime/) as unknown,
  });
});
