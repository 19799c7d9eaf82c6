import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { Cgroups, parseHierarchies } from './cgroup.ts';

const line = (id: number, mountPoint: string, type: string, options: string): string =>
  `${String(id)} 24 0:${String(id)} / ${mountPoint} rw,nosuid shared:9 - ${type} ${type} ${options}`;

test('finds the one tree of cgroup v2', () => {
  const table = [line(30, '/sys/fs/cgroup', 'cgroup2', 'rw,nsdelegate'), line(31, '/run', 'tmpfs', 'rw')].join('\n');
  expect(parseHierarchies(table)).toEqual([{ mountPoint: '/sys/fs/cgroup', version: 2 }]);
});

test('finds the controllers of v1 and the v2 tree beside them, but neither cpuset nor a named one', () => {
  const table = [
    line(30, '/sys/fs/cgroup/cpu,cpuacct', 'cgroup', 'rw,cpu,cpuacct'),
    line(31, '/sys/fs/cgroup/cpuset', 'cgroup', 'rw,cpuset'),
    line(32, '/sys/fs/cgroup/systemd', 'cgroup', 'rw,name=systemd'),
    line(33, '/sys/fs/cgroup/unified', 'cgroup2', 'rw'),
    line(34, '/mnt/again', 'cgroup', 'rw,cpu,cpuacct'),
  ].join('\n');
  expect(parseHierarchies(table)).toEqual([
    { mountPoint: '/mnt/again', version: 1 },
    { mountPoint: '/sys/fs/cgroup/unified', version: 2 },
  ]);
});

test('makes a group of its own for each vm and removes it', async () => {
  const root = await mkdtemp(join(tmpdir(), 'kelyfos-cgroup-'));
  try {
    await writeFile(join(root, 'cgroup.controllers'), 'cpu pids\n');
    await writeFile(join(root, 'cgroup.subtree_control'), '');
    await mkdir(join(root, 'kelyfos'));
    await writeFile(join(root, 'kelyfos', 'cgroup.subtree_control'), '');
    const cgroups = new Cgroups([{ mountPoint: root, version: 2 }]);
    const id = '0123456789abcdef';
    expect(await cgroups.create(id)).toEqual([join(root, 'kelyfos', id)]);
    expect(await readFile(join(root, 'cgroup.subtree_control'), 'utf8')).toContain('pids');
    await cgroups.remove(id);
    await cgroups.remove(id);
    await expect(stat(join(root, 'kelyfos', id))).rejects.toThrow('ENOENT');
  } finally {
    await rm(root, { recursive: true });
  }
});
