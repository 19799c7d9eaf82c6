import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { AppError } from '../platform/errors.ts';
import { containerConfig, DomainFixture, never } from './fakes/domain-fixture.ts';
import type { LinuxResources } from './model.ts';

let node: DomainFixture;

const limits: LinuxResources = {
  cpuPeriod: 100_000n,
  cpuQuota: 50_000n,
  cpuShares: 512n,
  memoryLimitBytes: 64n << 20n,
  memorySwapLimitBytes: 0n,
  oomScoreAdj: 0,
  cpusetCpus: '',
  cpusetMems: '',
  hugepageLimits: [{ pageSize: '2MB', limit: 0n }],
  unified: {},
};
const only = (change: Partial<LinuxResources>): LinuxResources => ({
  ...limits,
  cpuPeriod: 0n,
  cpuQuota: 0n,
  cpuShares: 0n,
  memoryLimitBytes: 0n,
  ...change,
});

beforeEach(async () => {
  node = await DomainFixture.create();
});

afterEach(async () => {
  await node[Symbol.asyncDispose]();
});

const kind = (expected: string): unknown => expect.objectContaining({ kind: expected });

test('limits of a container reach the guest whole, are shown, and outlive the daemon', async () => {
  const { id: pod, vm } = await node.runPod();
  const id = await node.domain.containers.create(pod, { ...containerConfig(), resources: limits }, never);
  await node.domain.resources.container(id, only({ memoryLimitBytes: 128n << 20n, oomScoreAdj: 3 }), never);
  const { resources } = vm.agent.updates[0] ?? {};
  expect(vm.agent.updates).toMatchObject([{ id, oomScoreAdj: 3 }]);
  expect(resources).toMatchObject({ memoryLimitBytes: 128n << 20n, cpuQuotaUs: 50_000n, cpuPeriodUs: 100_000n });
  await node.restart();
  expect(node.domain.containers.get(id).resources).toEqual({
    ...limits,
    memoryLimitBytes: 128n << 20n,
    oomScoreAdj: 3,
  });
});

test('a guest that refuses leaves the old limits on show', async () => {
  const { id: pod, vm } = await node.runPod();
  const id = await node.startContainer(pod);
  vm.agent.failNext('updateContainer', new AppError('failed-precondition', 'below what is in use'));
  await expect(node.domain.resources.container(id, limits, never)).rejects.toThrow(
    /^update resources of container "app": below what is in use/,
  );
  expect(node.domain.containers.get(id).resources).toBeUndefined();
});

test('more than the machine has, and huge pages, do not reach the guest', async () => {
  const { id: pod, vm } = await node.runPod();
  const id = await node.startContainer(pod);
  const huge = only({ hugepageLimits: [{ pageSize: '1GB', limit: 1n }] });
  for (const change of [only({ memoryLimitBytes: 513n << 20n }), huge]) {
    await expect(node.domain.resources.container(id, change, never)).rejects.toEqual(kind('failed-precondition'));
  }
  await expect(
    node.domain.resources.sandbox(
      pod,
      { resources: only({ memoryLimitBytes: 1n << 40n }), overhead: undefined },
      never,
    ),
  ).rejects.toEqual(kind('failed-precondition'));
  expect(vm.agent.updates).toEqual([]);
});

test('a container that has exited only remembers', async () => {
  const { id: pod, vm } = await node.runPod();
  const id = await node.startContainer(pod);
  await node.domain.containers.stop(id, 10, never);
  await node.domain.resources.container(id, limits, never);
  expect(vm.agent.updates).toEqual([]);
  expect(node.domain.containers.get(id)).toMatchObject({ state: 'exited', resources: limits });
});

test('limits of a pod reach the guest; a stopped pod has none', async () => {
  const { id, vm } = await node.runPod();
  await node.domain.resources.sandbox(id, { resources: limits, overhead: undefined }, never);
  expect(vm.agent.updates).toMatchObject([{ id: '', resources: { memoryLimitBytes: 64n << 20n } }]);
  expect(vm.limits).toMatchObject([{ memoryBytes: (64n + 160n) << 20n, cpuQuota: 50_000n }]);
  await node.domain.sandboxes.stop(id);
  await expect(node.domain.resources.sandbox(id, { resources: limits, overhead: undefined }, never)).rejects.toThrow(
    /is not ready/,
  );
  await expect(node.domain.resources.container('0' as never, limits, never)).rejects.toEqual(kind('not-found'));
});

test('a machine joins the cgroup of its pod; one that cannot is undone with its network', async () => {
  const { domain, vms, networks } = node;
  await domain.sandboxes.run(node.sandboxConfig('in', { cgroupParent: '/kubepods/pod1' }), '', never);
  expect(vms.alive.map(({ cgroupParent }) => cgroupParent)).toEqual(['/kubepods/pod1']);
  const refused = node.sandboxConfig('out', { cgroupParent: '/refused' });
  await expect(domain.sandboxes.run(refused, '', never)).rejects.toThrow(/cgroup refused/);
  expect([vms.alive.length, networks.attached.size, domain.sandboxes.list().length]).toEqual([1, 1, 1]);
});
