import { spawn } from 'node:child_process';
import { mkdir, readFile, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { status as grpc } from '@grpc/grpc-js';
import { silentLog } from '../../src/platform/log.ts';
import { Cgroups } from '../../src/vm/cgroup/cgroups.ts';
import { type CgroupHierarchy, parseHierarchies, resourceHierarchies } from '../../src/vm/cgroup/hierarchies.ts';
import { confineGroup } from '../../src/vm/jailer-confine.ts';
import { jailer } from '../harness/jail-fixture.ts';
import { TestNode, type Pod } from '../harness/node.ts';

/** Where virtual machines are in the host's cgroups, on whatever hierarchies this host has. */
let node: TestNode;
let hierarchies: readonly CgroupHierarchy[];
const unique = `kelyfos-test-${String(process.pid)}`;
const mib = (count: number): string => String(count * 1024 ** 2);

beforeAll(async () => {
  hierarchies = parseHierarchies(await readFile('/proc/self/mountinfo', 'utf8'));
  node = await TestNode.start({
    config: { cgroup_driver: 'cgroupfs', vm: { classes: { default: { memory: '512MiB', pool: 1 } } } },
  });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

/** Groups of a process, one for each hierarchy that VMs move in. */
async function groupsOf(pid: number): Promise<ReadonlySet<string>> {
  const lines = (await readFile(`/proc/${String(pid)}/cgroup`, 'utf8')).trimEnd().split('\n');
  const names = resourceHierarchies(hierarchies).flatMap(({ controllers }) => controllers);
  return new Set(
    lines.flatMap((line) => {
      const [, controllers = '', ...path] = line.split(':');
      const counts = names.length === 0 ? controllers === '' : controllers.split(',').some((it) => names.includes(it));
      return counts ? [path.join(':')] : [];
    }),
  );
}

async function vmOf(pod: Pod): Promise<{ readonly pid: number; readonly id: string }> {
  const { info } = await node.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: pod.id, verbose: true });
  return {
    pid: (JSON.parse(info['info'] ?? '{}') as { readonly pid: number }).pid,
    id: (await node.vmOf(pod)).id,
  };
}

async function existing(path: string): Promise<string[]> {
  const folders = hierarchies.map(({ mountPoint }) => join(mountPoint, path));
  const found = await Promise.all(folders.map((folder) => stat(folder).catch(() => undefined)));
  return folders.filter((_, index) => found[index] !== undefined);
}

/** A limit of a VM on the host, by its file in v1 or in v2. */
async function hostLimit(group: string, ...files: readonly string[]): Promise<string> {
  for (const { mountPoint } of resourceHierarchies(hierarchies)) {
    for (const file of files) {
      const text = await readFile(join(mountPoint, group, file), 'utf8').catch(() => undefined);
      if (text !== undefined) return text.trim();
    }
  }
  throw new Error(`none of ${files.join(', ')} in ${group}`);
}
const memoryLimit = (group: string) => hostLimit(group, 'memory.max', 'memory.limit_in_bytes');

test('pods without a parent stay among the machines of this runtime', async () => {
  const pod = await node.runPod();
  const vm = await vmOf(pod);
  expect(await groupsOf(vm.pid)).toEqual(new Set([`/kelyfos/${vm.id}`]));
  await node.removePod(pod);
  expect(await existing(`kelyfos/${vm.id}`)).toEqual([]);
});

test('a machine moves below its pod; what was made for it goes with the last, what was there stays', async () => {
  const parent = `/${unique}/burstable`;
  const [first, second] = await Promise.all([
    node.runPod({ config: { linux: { cgroup_parent: parent } } }),
    node.runPod({ config: { linux: { cgroup_parent: parent } } }),
  ]);
  const vms = [await vmOf(first), await vmOf(second)];
  for (const { pid, id } of vms) expect(await groupsOf(pid)).toEqual(new Set([`${parent}/kelyfos-${id}`]));
  const id = await node.startContainer(first);
  await node.daemon.kill();
  await node.daemon.start();
  expect((await node.exec(id, 'true')).exitCode).toBe(0);
  await node.removePod(first);
  expect(await existing(`${parent}/kelyfos-${vms[0]?.id ?? ''}`)).toEqual([]);
  expect(await existing(parent)).not.toEqual([]);
  await node.removePod(second);
  expect(await existing(unique)).toEqual([]);
});

test('limits of a pod are those of its machine on the host, with what the machine takes on top', async () => {
  const own = resourceHierarchies(hierarchies).map(({ mountPoint }) => join(mountPoint, unique));
  for (const folder of own) await mkdir(folder);
  try {
    const pod = await node.runPod({ config: { linux: { cgroup_parent: `/${unique}` } } });
    const group = `${unique}/kelyfos-${(await vmOf(pod)).id}`;
    const update = (memory: string, overhead = '0') =>
      node.daemon.cri.call('UpdatePodSandboxResources', {
        pod_sandbox_id: pod.id,
        resources: { memory_limit_in_bytes: memory, cpu_quota: '80000', cpu_period: '100000', cpu_shares: '512' },
        overhead: { memory_limit_in_bytes: overhead },
      });
    await update(mib(256));
    expect(await memoryLimit(group)).toBe(mib(256 + 160));
    await update(mib(200), mib(200));
    expect(await memoryLimit(group)).toBe(mib(400));
    expect(await hostLimit(group, 'cpu.max', 'cpu.cfs_quota_us')).toMatch(/^80000/);
    expect(await hostLimit(group, 'cpu.weight', 'cpu.shares')).toMatch(/^(20|512)$/);
    await expect(update(mib(1), mib(1))).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION });
    expect(await memoryLimit(group)).toBe(mib(400));
    await node.removePod(pod);
    expect(await existing(group)).toEqual([]);
    expect(await existing(unique)).toEqual(own);
  } finally {
    // A pod that is still there after a failure is not to hide that; the leak check sees what is left.
    for (const folder of own) await rmdir(folder).catch(() => undefined);
  }
});

describe('a tree of cgroup v2', () => {
  test('takes a process below a pod, under the rules of a jail', async () => {
    const v2 = hierarchies.filter(({ version }) => version === 2);
    expect(v2).toHaveLength(1);
    const confined: string[] = [];
    const cgroups = new Cgroups({
      hierarchies: v2,
      driver: 'cgroupfs',
      startScope: () => Promise.reject(new Error('not by systemd')),
      confine: async (folder) => {
        confined.push(folder);
        await confineGroup(jailer, folder, false);
      },
      log: silentLog(),
      home: `${unique}-home`,
    });
    const vmId = '0123456789abcdef';
    const program = spawn('sleep', ['100'], { stdio: 'ignore' });
    const ended = new Promise((resolve) => program.once('exit', resolve));
    const place = await cgroups.place(vmId, `/${unique}/pod`);
    try {
      await cgroups.create(vmId);
      const pid = program.pid ?? 0;
      await cgroups.move(pid, place, `/${unique}/pod`);
      expect(await readFile(`/proc/${String(pid)}/cgroup`, 'utf8')).toContain(`0::/${unique}/pod/kelyfos-${vmId}\n`);
      expect(confined).toEqual([join(v2[0]?.mountPoint ?? '', place.path)]);
      await cgroups.kill(vmId, place);
      await ended;
    } finally {
      program.kill('SIGKILL');
      await cgroups.remove(vmId, place);
      await rmdir(join(v2[0]?.mountPoint ?? '', `${unique}-home`));
    }
    expect(await existing(unique)).toEqual([]);
  });
});
