import { expect, test } from '@jest/globals';
import { parseHierarchies, resourceHierarchies } from './hierarchies.ts';

const line = (id: number, mountPoint: string, type: string, options: string): string =>
  `${String(id)} 24 0:${String(id)} / ${mountPoint} rw,nosuid shared:9 - ${type} ${type} ${options}`;

test('finds the one tree of cgroup v2', () => {
  const table = [line(30, '/sys/fs/cgroup', 'cgroup2', 'rw,nsdelegate'), line(31, '/run', 'tmpfs', 'rw')].join('\n');
  const found = parseHierarchies(table);
  expect(found).toEqual([{ mountPoint: '/sys/fs/cgroup', version: 2, controllers: [] }]);
  expect(resourceHierarchies(found)).toEqual(found);
});

test('finds the controllers of v1 and the v2 tree beside them, but no named one; VMs move in those of resources', () => {
  const table = [
    line(30, '/sys/fs/cgroup/cpu,cpuacct', 'cgroup', 'rw,cpu,cpuacct'),
    line(31, '/sys/fs/cgroup/cpuset', 'cgroup', 'rw,cpuset'),
    line(32, '/sys/fs/cgroup/systemd', 'cgroup', 'rw,name=systemd'),
    line(33, '/sys/fs/cgroup/devices', 'cgroup', 'rw,devices'),
    line(34, '/sys/fs/cgroup/unified', 'cgroup2', 'rw'),
    line(35, '/mnt/again', 'cgroup', 'rw,cpu,cpuacct'),
  ].join('\n');
  const found = parseHierarchies(table);
  expect(found).toEqual([
    { mountPoint: '/mnt/again', version: 1, controllers: ['cpu', 'cpuacct'] },
    { mountPoint: '/sys/fs/cgroup/cpuset', version: 1, controllers: ['cpuset'] },
    { mountPoint: '/sys/fs/cgroup/devices', version: 1, controllers: ['devices'] },
    { mountPoint: '/sys/fs/cgroup/unified', version: 2, controllers: [] },
  ]);
  expect(resourceHierarchies(found).map(({ mountPoint }) => mountPoint)).toEqual([
    '/mnt/again',
    '/sys/fs/cgroup/cpuset',
  ]);
});
