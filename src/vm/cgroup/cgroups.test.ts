import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { silentLog } from '../../platform/log.ts';
import { Cgroups, type CgroupsOptions } from './cgroups.ts';
import { type Scope, startScopeArguments } from './systemd-scope.ts';

/** A folder stands for the tree: groups can be made and removed, files are there if the test has made them. */
let root: string;
const vmId = '0123456789abcdef';

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kelyfos-cgroup-'));
});

afterEach(async () => {
  await rm(root, { recursive: true });
});

function cgroups(options: Partial<CgroupsOptions> = {}): Cgroups {
  return new Cgroups({
    hierarchies: [{ mountPoint: root, version: 2, controllers: [] }],
    driver: 'cgroupfs',
    startScope: () => Promise.reject(new Error('no systemd here')),
    confine: () => Promise.resolve(),
    log: silentLog(),
    ...options,
  });
}

const file = (...parts: string[]): Promise<string> => readFile(join(root, ...parts), 'utf8');

async function group(path: string, files: Readonly<Record<string, string>>): Promise<void> {
  await mkdir(join(root, path), { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(root, path, name), text);
}

test('makes a group of its own for each vm, with the controllers there are, and removes it', async () => {
  await writeFile(join(root, 'cgroup.controllers'), 'cpu pids\n');
  await writeFile(join(root, 'cgroup.subtree_control'), 'cpu\n');
  const all = cgroups();
  expect(await all.create(vmId)).toEqual([join(root, 'kelyfos', vmId)]);
  expect(await file('cgroup.subtree_control')).toContain('+pids');
  await all.remove(vmId);
  await all.remove(vmId);
  await expect(stat(join(root, 'kelyfos', vmId))).rejects.toThrow('ENOENT');
});

describe('a place below a pod', () => {
  test('names the groups that are made for it, and those made for others of ours', async () => {
    await mkdir(join(root, 'kubepods'));
    const all = cgroups();
    const place = await all.place(vmId, '/kubepods/burstable/pod1');
    expect(place).toEqual({
      path: `kubepods/burstable/pod1/kelyfos-${vmId}`,
      made: [join(root, 'kubepods/burstable/pod1'), join(root, 'kubepods/burstable')],
    });
    await group(place.path, { 'cgroup.procs': '' });
    await all.move(42, place, '/kubepods/burstable/pod1');
    expect(await file(place.path, 'cgroup.procs')).toBe('42');
    expect((await all.place(vmId, '/kubepods/burstable/pod2')).made).toEqual([
      join(root, 'kubepods/burstable/pod2'),
      join(root, 'kubepods/burstable'),
    ]);
    // A daemon that knows nothing of it takes the group for somebody else's.
    expect((await cgroups().place(vmId, '/kubepods/burstable')).made).toEqual([]);
  });

  test('goes, and what was made for it when nobody else is there; the rest stays', async () => {
    await mkdir(join(root, 'kubepods'));
    const all = cgroups();
    const [one, two] = [await all.place('1'.repeat(16), '/kubepods/p'), await all.place('2'.repeat(16), '/kubepods/p')];
    for (const { path } of [one, two]) await mkdir(join(root, path), { recursive: true });
    await all.remove('1'.repeat(16), one);
    await expect(stat(join(root, 'kubepods/p'))).resolves.toBeDefined();
    await all.remove('2'.repeat(16), two);
    await expect(stat(join(root, 'kubepods/p'))).rejects.toThrow('ENOENT');
    await expect(stat(join(root, 'kubepods'))).resolves.toBeDefined();
  });

  test('is a scope that systemd makes', async () => {
    const asked: Scope[] = [];
    const order: string[] = [];
    const all = cgroups({
      driver: 'systemd',
      startScope: async (scope) => {
        asked.push(scope);
        await group(`a.slice/a-b.slice/${scope.unit}`, { 'cgroup.procs': `${String(scope.pid)}\n` });
      },
      confine: async (folder) => void order.push(folder),
    });
    const place = await all.place(vmId, '/a.slice/a-b.slice');
    expect(place).toEqual({ path: `a.slice/a-b.slice/kelyfos-${vmId}.scope`, made: [] });
    await all.move(42, place, '/a.slice/a-b.slice');
    expect(asked).toEqual([{ unit: `kelyfos-${vmId}.scope`, slice: 'a-b.slice', pid: 42, maxTasks: 512 }]);
    expect(order).toEqual([join(root, place.path)]);
    await expect(all.place(vmId, '/kubepods/pod1')).rejects.toThrow(/"\/kubepods\/pod1" is not the name of a slice/);
  });
});

test('the scope is delegated and takes the process along', () => {
  const line = startScopeArguments({ unit: 'u.scope', slice: 's.slice', pid: 7, maxTasks: 9 }).join(' ');
  expect(line).toContain('StartTransientUnit ssa(sv)a(sa(sv)) u.scope fail 11 PIDs au 1 7 Slice s s.slice ');
  expect(line).toMatch(/ Delegate b true .* TasksMax t 9 0$/);
});

describe('limits', () => {
  const limits = {
    cpuShares: 1024n,
    cpuQuota: 50_000n,
    cpuPeriod: 100_000n,
    memoryBytes: 4096n,
    cpusetCpus: '0',
    cpusetMems: '',
  };
  const home = `kelyfos/${vmId}`;

  test('are written to the group that the vm is in; a controller that is missing is passed over', async () => {
    await group(home, { 'cpu.weight': '10', 'memory.max': 'max' });
    await group('p/x', { 'cpu.max': 'max 100000' });
    await cgroups().limit(vmId, undefined, limits);
    await cgroups().limit(vmId, { path: 'p/x', made: [] }, limits);
    expect([await file(home, 'cpu.weight'), await file(home, 'memory.max')]).toEqual(['39', '4096']);
    expect(await file('p/x/cpu.max')).toBe('50000 100000');
  });

  test('below what the vm holds change nothing', async () => {
    await group(home, { 'cpu.weight': '100', 'memory.max': 'max', 'memory.current': '5000\n' });
    await expect(cgroups().limit(vmId, undefined, limits)).rejects.toThrow(
      'memory: 4096 bytes are less than the 5000 that the virtual machine holds',
    );
    expect([await file(home, 'cpu.weight'), await file(home, 'memory.max')]).toEqual(['100', 'max']);
  });

  test('of which one is refused are taken back', async () => {
    await group(home, { 'cpu.weight': '10' });
    // Can be read, but not written.
    await symlink('/proc/sys/kernel/osrelease', join(root, home, 'cpuset.cpus'));
    await expect(cgroups().limit(vmId, undefined, limits)).rejects.toThrow(/cpuset\.cpus/);
    expect(await file(home, 'cpu.weight')).toBe('10');
  });
});
