import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { status as grpc } from '@grpc/grpc-js';
import { TestNode, type Pod } from '../harness/node.ts';

/** Limits that are changed while pods run, and what becomes of those who pass them. */
let node: TestNode;
let pod: Pod;
const mebibyte = 1024 ** 2;
const mib = (count: number): string => String(count * mebibyte);

beforeAll(async () => {
  node = await TestNode.start({ config: { vm: { classes: { default: { memory: '512MiB', pool: 0 } } } } });
  pod = await node.runPod();
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

const files = 'cpu.max cpu.weight cpuset.cpus memory.max';
const limitsOf = (id: string): Promise<string> => node.sh(id, `cd /sys/fs/cgroup; cat ${files} | xargs`);

describe('an update of a container', () => {
  test('by crictl takes effect, is shown, and outlives the daemon', async () => {
    const resources = { cpu_period: '100000', cpu_quota: '50000', cpu_shares: '512', memory_limit_in_bytes: mib(64) };
    const id = await node.startContainer(pod, { config: { linux: { resources } } });
    expect(await limitsOf(id)).toBe(`50000 100000 20 ${mib(64)}`);
    const { crictl } = node.daemon;
    await crictl.run('update', '--memory', mib(128), '--cpu-quota', '80000', '--cpuset-cpus', '0', id);
    expect(await limitsOf(id)).toBe(`80000 100000 20 0 ${mib(128)}`);
    const shown = { ...resources, cpu_quota: '80000', cpuset_cpus: '0', memory_limit_in_bytes: mib(128) };
    expect((await node.status(id)).resources).toMatchObject({ linux: shown });
    await node.daemon.kill();
    await node.daemon.start();
    expect((await node.status(id)).resources).toMatchObject({ linux: shown });
    await crictl.run('update', '--cpu-share', '2048', id);
    expect(await limitsOf(id)).toBe(`80000 100000 79 0 ${mib(128)}`);
    await crictl.run('rm', '-f', id);
  });

  test('changes the scores of running processes and of those to come', async () => {
    const id = await node.startContainer(pod, { command: ['tail', '-f', '/dev/null'] });
    const linux = { oom_score_adj: '700' };
    await node.daemon.cri.call('UpdateContainerResources', { container_id: id, linux });
    expect(await node.sh(id, 'cat /proc/$(pidof tail)/oom_score_adj /proc/self/oom_score_adj | xargs')).toBe('700 700');
    expect((await node.status(id)).resources).toMatchObject({ linux });
  });

  test('gives caches back, but refuses to end the container', async () => {
    const script =
      'dd if=/dev/zero of=/dev/shm/kept bs=1M count=30; dd if=/dev/zero of=/cached bs=1M count=30; sync; touch /ready; sleep 1000';
    const id = await node.startContainer(pod, { command: ['sh', '-c', script] });
    await node.sh(id, 'until [ -e /ready ]; do sleep 0.1; done');
    const update = (bytes: string) =>
      node.daemon.cri.call('UpdateContainerResources', { container_id: id, linux: { memory_limit_in_bytes: bytes } });
    await update(mib(45));
    await expect(update(mib(16))).rejects.toMatchObject({
      code: grpc.FAILED_PRECONDITION,
      details: expect.stringMatching(/memory_limit_bytes: 16777216 is below the \d+ bytes in use/) as unknown,
    });
    expect(await node.sh(id, 'cat /sys/fs/cgroup/memory.max')).toBe(mib(45));
    expect(await node.status(id)).toMatchObject({
      state: 'CONTAINER_RUNNING',
      resources: { linux: { memory_limit_in_bytes: mib(45) } },
    });
    await node.daemon.cri.call('RemoveContainer', { container_id: id });
  });

  test('of what the machine does not have is refused', async () => {
    const id = await node.startContainer(pod);
    const update = (linux: object) => node.daemon.cri.call('UpdateContainerResources', { container_id: id, linux });
    const before = await limitsOf(id);
    const refusals: [object, RegExp][] = [
      [{ memory_limit_in_bytes: mib(4096) }, /more than the 512 MiB of the pod's virtual machine/],
      [{ cpu_quota: '400000', cpu_period: '100000' }, /more than the 1 vCPUs/],
      [{ hugepage_limits: [{ page_size: '2MB', limit: '4096' }] }, /no huge pages to give/],
      // The first of the two is taken back.
      [{ cpu_shares: '100', cpuset_cpus: '77' }, /cpuset_cpus/],
    ];
    for (const [linux, details] of refusals)
      await expect(update(linux)).rejects.toMatchObject({ details: expect.stringMatching(details) as unknown });
    await update({ hugepage_limits: [{ page_size: '2MB', limit: '0' }] });
    expect(await limitsOf(id)).toBe(before);
  });
});

describe('memory that runs out', () => {
  const linux = { resources: { memory_limit_in_bytes: mib(15), memory_swap_limit_in_bytes: mib(15) } };

  test('is OOMKilled with 137', async () => {
    // As critest has it.
    const command = ['sh', '-c', 'dd if=/dev/zero of=/dev/null bs=20M'];
    const { status } = await node.runToEnd(pod, { command, config: { linux } });
    expect(status).toMatchObject({ exit_code: 137, reason: 'OOMKilled' });
  });

  test('is told of a child, too, that the container has survived', async () => {
    const command = ['sh', '-c', 'dd if=/dev/zero of=/dev/null bs=20M; echo still here'];
    const { status, output } = await node.runToEnd(pod, { command, config: { linux } });
    expect(output).toContain('still here');
    expect(status).toMatchObject({ exit_code: 0, reason: 'OOMKilled' });
  });
});

test('limits of a pod hold for all of its containers together', async () => {
  const small = await node.runPod();
  const id = await node.startContainer(small);
  await node.daemon.cri.call('UpdatePodSandboxResources', {
    pod_sandbox_id: small.id,
    resources: { memory_limit_in_bytes: mib(32) },
    overhead: { memory_limit_in_bytes: mib(160) },
  });
  const { exitCode } = await node.exec(id, 'dd', 'if=/dev/zero', 'of=/dev/null', 'bs=60M', 'count=1');
  expect(exitCode).toBe(137);
  expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
  await expect(
    node.daemon.cri.call('UpdatePodSandboxResources', {
      pod_sandbox_id: small.id,
      resources: { memory_limit_in_bytes: mib(1024) },
    }),
  ).rejects.toMatchObject({ details: expect.stringMatching(/more than the 512 MiB/) as unknown });
  await node.removePod(small);
});
