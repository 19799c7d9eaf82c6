import { expect, test } from '@jest/globals';
import { findGroups, groupFolders, parseInterfaces, readHostUsage } from './host-usage.ts';
import { parsePressure } from './pressure.ts';

test('groups are found on hybrid hosts', () => {
  const mounts = [
    '36 25 0:31 / /sys/fs/cgroup/cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct',
    '37 25 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory',
    '38 25 0:33 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw',
  ].join('\n');
  const membership = '4:memory:/pods/a\n2:cpu,cpuacct:/pods/a\n0::/kelyfos/a\n';
  expect(groupFolders(mounts, membership)).toEqual({
    cpuacct: '/sys/fs/cgroup/cpuacct/pods/a',
    memory: '/sys/fs/cgroup/memory/pods/a',
    unified: '/sys/fs/cgroup/unified/kelyfos/a',
  });
});

test('groups are found where only a part of the tree is mounted', () => {
  const mounts = '38 25 0:33 /node /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate';
  expect(groupFolders(mounts, '0::/node/kubepods/x\n').unified).toBe('/sys/fs/cgroup/kubepods/x');
});

test('interfaces have their numbers in the right places', () => {
  const text =
    'Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop\n' +
    '    lo:       1       2    0    0    0     0          0         0        3       4    0    0    0     0       0          0\n' +
    'eth0:10 20 30 40 0 0 0 0 50 60 70 80 0 0 0 0\n';
  expect(parseInterfaces(text)).toMatchObject([
    { name: 'lo', received: { bytes: 1n, packets: 2n }, sent: { bytes: 3n, packets: 4n } },
    {
      name: 'eth0',
      received: { bytes: 10n, packets: 20n, errors: 30n, dropped: 40n },
      sent: { bytes: 50n, packets: 60n, errors: 70n, dropped: 80n },
    },
  ]);
});

test('pressure is read, and its absence is', () => {
  const text = 'some avg10=1.50 avg60=0.25 avg300=0.00 total=4242\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=17\n';
  expect(parsePressure(text)).toEqual({
    some: { avg10: 1.5, avg60: 0.25, avg300: 0, totalUs: 4242n },
    full: { avg10: 0, avg60: 0, avg300: 0, totalUs: 17n },
  });
  expect(parsePressure('')).toBeUndefined();
});

test('a process that is gone is an error', async () => {
  const groups = { unified: undefined, cpuacct: undefined, memory: undefined };
  await expect(readHostUsage(2 ** 22, groups, [])).rejects.toThrow(/ENOENT/);
  await expect(findGroups(2 ** 22)).rejects.toThrow(/ENOENT/);
});
