import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type * as cri from '../../src/cri/gen/cri-types.ts';
import { TestNode, type Pod } from '../harness/node.ts';

/** What pods and containers use, asked of real guests, through CRI and crictl. */
let node: TestNode;
let pod: Pod;
let busy: string;
let idle: string;

beforeAll(async () => {
  node = await TestNode.start();
  pod = await node.runPod({ name: 'web' });
  busy = await node.startContainer(pod, {
    name: 'busy',
    command: ['sh', '-c', 'while true; do :; done'],
    // Leaves the guest's agent time to answer.
    config: { linux: { resources: { cpu_period: '100000', cpu_quota: '20000' } } },
  });
  idle = await node.startContainer(pod, {
    name: 'idle',
    config: { linux: { resources: { memory_limit_in_bytes: String(64 << 20) } } },
  });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

const unavailable = 14;
const number = (value: cri.UInt64Value | null | undefined): number => Number(value?.value ?? NaN);

/** Younger than `after`, since a guest on a busy machine may be late. */
async function statsOf(id: string, after = Date.now()): Promise<cri.ContainerStats> {
  for (const deadline = Date.now() + 20_000; ;) {
    const found = await node.daemon.cri.call('ContainerStats', { container_id: id }).catch((error: unknown) => {
      if ((error as { code?: unknown }).code !== unavailable) throw error;
      return undefined;
    });
    const stats = found?.stats;
    if (stats && Number(stats.cpu?.timestamp) / 1e6 >= after) return stats;
    if (Date.now() > deadline) throw new Error(`no fresh statistics of ${id}`);
    await delay(100);
  }
}

async function podStats(id: string, whole = true): Promise<cri.LinuxPodSandboxStats> {
  for (const deadline = Date.now() + 20_000; ;) {
    const { stats } = await node.daemon.cri.call('PodSandboxStats', { pod_sandbox_id: id });
    if (stats?.linux && (!whole || stats.linux.process !== null)) return stats.linux;
    if (Date.now() > deadline) throw new Error(`no statistics of ${id}`);
    await delay(100);
  }
}

test('a container: CPU moves with its work, memory, swap, pressure, writable layer', async () => {
  const before = await statsOf(busy);
  await delay(1_000);
  const after = await statsOf(busy);
  expect(Number(after.cpu?.timestamp)).toBeGreaterThan(Number(before.cpu?.timestamp));
  expect(number(after.cpu?.usage_core_nano_seconds)).toBeGreaterThan(number(before.cpu?.usage_core_nano_seconds));
  expect(number(after.cpu?.usage_nano_cores)).toBeGreaterThan(0);
  expect(number(after.memory?.usage_bytes)).toBeGreaterThan(number(after.memory?.rss_bytes));
  expect(after.memory?.available_bytes).toBeNull();
  // Its quota keeps it waiting.
  expect(Number(after.cpu?.psi?.Some?.Total)).toBeGreaterThan(0);
  expect(after.memory?.psi?.Full).not.toBeNull();
  expect(number(after.swap?.swap_usage_bytes)).toBe(0);

  await node.sh(idle, 'head -c 3000000 /dev/urandom > /written; mkdir /a /a/b');
  let { memory, writable_layer: layer } = await statsOf(idle);
  // Files are counted beside the calls: a figure may be of a moment before.
  while (number(layer?.used_bytes) < 3_000_000) ({ memory, writable_layer: layer } = await statsOf(idle));
  expect(number(memory?.available_bytes)).toBe((64 << 20) - number(memory?.working_set_bytes));
  expect(number(layer?.inodes_used)).toBeGreaterThanOrEqual(3);
  const { image_filesystems: files } = await node.daemon.cri.call('ImageFsInfo', {});
  expect(layer?.fs_id).toEqual(files[0]?.fs_id);
});

test('a pod: what its VM takes, its interface, its processes', async () => {
  const before = await podStats(pod.id);
  const gateway = await node.sh(idle, "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'");
  await node.sh(idle, `ping -c 3 -i 0.2 -s 1000 ${gateway}`);
  const after = await podStats(pod.id);
  const network = (stats: cri.LinuxPodSandboxStats): cri.NetworkInterfaceUsage | null | undefined =>
    stats.network?.default_interface;
  expect(network(after)?.name).toBe('eth0');
  expect(number(network(after)?.rx_bytes) - number(network(before)?.rx_bytes)).toBeGreaterThanOrEqual(3_000);
  expect(number(network(after)?.tx_bytes) - number(network(before)?.tx_bytes)).toBeGreaterThanOrEqual(3_000);
  expect(after.network?.interfaces).toEqual([]);
  expect(number(after.process?.process_count)).toBe(2);
  expect(new Set(after.containers.map(({ attributes }) => attributes?.metadata?.name))).toEqual(
    new Set(['busy', 'idle']),
  );
  const cpu = (stats: cri.LinuxPodSandboxStats): number => number(stats.cpu?.usage_core_nano_seconds);
  expect(cpu(after)).toBeGreaterThan(cpu(before));
  // The guest's kernel and QEMU come on top of what the containers use.
  expect(number(after.memory?.working_set_bytes)).toBeGreaterThan(10 << 20);
});

test('crictl stats and statsp, which look twice', async () => {
  const { crictl } = node.daemon;
  const { stats } = (await crictl.json('stats', '-o', 'json')) as { stats: { attributes: { id: string } }[] };
  expect(new Set(stats.map(({ attributes }) => attributes.id))).toEqual(new Set([busy, idle]));
  const table = await crictl.run('stats', '--seconds', '1', '--id', busy.slice(0, 13));
  const share = Number(/busy\s+([\d.]+)/.exec(table)?.[1]);
  expect(share).toBeGreaterThan(1);
  const pods = await crictl.run('statsp', '--seconds', '1');
  expect(pods).toContain('web');
});

test('an exited container keeps its figures; unknown ids are NOT_FOUND, or an empty list', async () => {
  const { status } = await node.runToEnd(pod, { name: 'ended', command: ['sh', '-c', 'echo x > /file'] });
  const { writable_layer: layer } = await statsOf(status.id);
  expect(number(layer?.inodes_used)).toBeGreaterThanOrEqual(1);
  await expect(statsOf('f00')).rejects.toMatchObject({ code: 5 });
  const { stats } = await node.daemon.cri.call('ListContainerStats', { filter: { id: 'f00' } });
  expect(stats).toEqual([]);
});

test('a VM that hangs, or dies, delays nobody and hides nobody', async () => {
  const stuck = await node.runPod({ name: 'stuck' });
  const inStuck = await node.startContainer(stuck);
  const pid = await node.qemuPid(stuck);
  process.kill(pid, 'SIGSTOP');
  try {
    const asked = performance.now();
    const { stats } = await node.daemon.cri.call('ListContainerStats', {});
    // 1 s is promised; the rest is for a busy machine.
    expect(performance.now() - asked).toBeLessThan(2_000);
    const ids = stats.map(({ attributes }) => attributes?.id ?? '');
    expect(ids).toEqual(expect.arrayContaining([busy, idle]));
    expect(ids).not.toContain(inStuck);
    const call = node.daemon.cri.call('ContainerStats', { container_id: inStuck });
    await expect(call).rejects.toMatchObject({ code: unavailable });
    // The host's accounts are there all the same.
    const linux = await podStats(stuck.id, false);
    expect(number(linux.cpu?.usage_core_nano_seconds)).toBeGreaterThan(0);
    expect(linux.process).toBeNull();
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  for (const deadline = Date.now() + 20_000; ;) {
    await delay(50);
    const { stats } = await node.daemon.cri.call('ListContainerStats', { filter: { pod_sandbox_id: stuck.id } });
    if (stats.length === 1) break;
    if (Date.now() > deadline) throw new Error('the guest that goes on is not asked again');
  }
  process.kill(pid, 'SIGKILL');
  const { stats } = await node.daemon.cri.call('ListPodSandboxStats', {});
  expect(stats.map(({ attributes }) => attributes?.id)).toContain(pod.id);
  await node.removePod(stuck);
});
