import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type KubePod, script, statusOf, TestCluster } from './cluster.ts';

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start({
    containerLogMaxSize: '64Ki',
    containerLogMaxFiles: 3,
    containerLogMonitorInterval: '3s',
  });
});

afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
});

const sleeps = script('main', 'echo up; exec sleep 100000');

interface Summary {
  readonly node: {
    readonly runtime: { readonly imageFs: { readonly usedBytes: number; readonly capacityBytes: number } };
  };
  readonly pods: readonly {
    readonly podRef: { readonly name: string };
    readonly containers: readonly {
      readonly name: string;
      readonly cpu: { readonly usageCoreNanoSeconds: number };
      readonly memory: { readonly workingSetBytes: number };
      readonly rootfs: { readonly usedBytes: number };
    }[];
  }[];
}

test('limits of a pod hold in its guest, and a container that takes too much is OOMKilled', async () => {
  await cluster.createPod('limits', {
    restartPolicy: 'Never',
    containers: [
      { ...sleeps, resources: { requests: { cpu: '100m' }, limits: { memory: '48Mi', cpu: '500m' } } },
      { name: 'greedy', command: ['tail', '/dev/zero'], resources: { limits: { memory: '20Mi' } } },
    ],
  });
  const pod = await cluster.waitForPod(
    'limits',
    'has lost its greedy container',
    ({ status }) => status.containerStatuses?.some(({ state }) => state.terminated !== undefined) === true,
  );
  expect(statusOf(pod, 'greedy').state.terminated).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
  expect(await cluster.sh('limits', 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max', 'main')).toBe(
    `${String(48 * 1024 * 1024)}\n50000 100000`,
  );
});

test('a container is resized in place', async () => {
  await cluster.createPod('resized', {
    containers: [
      {
        ...sleeps,
        resources: { requests: { cpu: '100m', memory: '48Mi' }, limits: { cpu: '200m', memory: '48Mi' } },
        resizePolicy: [
          { resourceName: 'cpu', restartPolicy: 'NotRequired' },
          { resourceName: 'memory', restartPolicy: 'NotRequired' },
        ],
      },
    ],
  });
  await cluster.waitReady('resized');
  const resources = { requests: { cpu: '100m', memory: '64Mi' }, limits: { cpu: '400m', memory: '64Mi' } };
  const patch = JSON.stringify({ spec: { containers: [{ name: 'main', resources }] } });
  await cluster.plane.kubectl(['patch', 'pod', 'resized', '--subresource', 'resize', '--patch', patch]);
  const pod = await cluster.waitForPod(
    'resized',
    'shows its new size',
    (it) => it.status.containerStatuses?.[0]?.resources?.limits?.['memory'] === '64Mi',
  );
  expect(statusOf(pod)).toMatchObject({ restartCount: 0, resources: { limits: { cpu: '400m', memory: '64Mi' } } });
  expect(await cluster.sh('resized', 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max')).toBe(
    `${String(64 * 1024 * 1024)}\n40000 100000`,
  );
});

test('a pod in the network of the host runs in the host runtime', async () => {
  await cluster.createPod('host-network', { hostNetwork: true, containers: [sleeps] });
  const pod = await cluster.waitReady('host-network');
  expect(pod.status.podIP).toBe(pod.status.hostIP);
  // It sees the bridge that pods in virtual machines are connected to.
  expect(await cluster.sh('host-network', 'ip -o link')).toMatch(/: kt[0-9a-f]+:/);
});

test('logs: kubectl reads them, and the kubelet rotates them', async () => {
  await cluster.createPod('logs', {
    containers: [script('main', 'i=0; while :; do i=$((i + 1)); echo "line $i of some length"; sleep 0.002; done')],
  });
  await cluster.waitReady('logs');
  expect(await cluster.plane.kubectl(['logs', 'logs', '--limit-bytes=100'])).toMatch(/^line \d+ of some length$/m);
  const root = join(cluster.kubelet.folder, 'pod-logs');
  const logs = async (): Promise<readonly string[]> => {
    const folder = (await readdir(root)).find((name) => name.startsWith('default_logs_'));
    return folder === undefined ? [] : readdir(join(root, folder, 'main'));
  };
  await cluster.until('logs have been rotated', async () => (await logs()).some((name) => name.endsWith('.gz')));
  const before = await cluster.plane.kubectl(['logs', 'logs', '--tail=1']);
  await cluster.until('it goes on in the new file', async () => {
    const last = await cluster.plane.kubectl(['logs', 'logs', '--tail=1']);
    return last !== '' && last !== before;
  });
});

test('the summary has what evictions are decided by', async () => {
  await cluster.createPod('measured', {
    containers: [script('main', 'head -c 5000000 /dev/urandom > /file; exec sleep 100000')],
  });
  await cluster.waitReady('measured');
  const find = (summary: Summary): Summary['pods'][number]['containers'][number] | undefined =>
    summary.pods.find(({ podRef }) => podRef.name === 'measured')?.containers[0];
  let summary = (await cluster.kubelet.get('/stats/summary')) as Summary;
  await cluster.until(
    'the writable layer is accounted for',
    async () => {
      summary = (await cluster.kubelet.get('/stats/summary')) as Summary;
      return (find(summary)?.rootfs.usedBytes ?? 0) > 5_000_000;
    },
    () => summary.pods,
  );
  const container = find(summary);
  expect(container?.cpu.usageCoreNanoSeconds).toBeGreaterThan(0);
  expect(container?.memory.workingSetBytes).toBeGreaterThan(0);
  const { imageFs } = summary.node.runtime;
  expect(imageFs.usedBytes).toBeGreaterThan(0);
  expect(imageFs.capacityBytes).toBeGreaterThan(imageFs.usedBytes);
});

function idsOf(pods: readonly KubePod[]): Readonly<Record<string, string>> {
  const entries = pods.flatMap(({ metadata, status }) =>
    (status.containerStatuses ?? []).map((it) => [
      `${metadata.name}/${it.name}`,
      `${it.containerID ?? ''} ${String(it.restartCount)}`,
    ]),
  );
  return Object.fromEntries(entries) as Readonly<Record<string, string>>;
}

test('pods stay when the kubelet is started again, and when the daemon is', async () => {
  const names = ['stays', 'stays-on-host'];
  await cluster.createPod('stays', { containers: [sleeps] });
  await cluster.createPod('stays-on-host', { hostNetwork: true, containers: [sleeps] });
  for (const name of names) await cluster.waitReady(name);
  const chosen = async (): Promise<Readonly<Record<string, string>>> =>
    idsOf((await cluster.pods()).filter(({ metadata: { name } }) => names.includes(name)));
  const before = await chosen();

  await cluster.kubelet.stop();
  await cluster.kubelet.start();
  for (const name of names) await cluster.waitReady(name);
  expect(await chosen()).toEqual(before);

  await cluster.daemon.stop();
  await cluster.daemon.start();
  await cluster.createPod('after', { containers: [sleeps] });
  for (const name of [...names, 'after']) await cluster.waitReady(name);
  expect(await chosen()).toEqual(before);
  expect(await cluster.sh('stays', 'echo still')).toBe('still');

  await cluster.daemon.kill();
  await cluster.daemon.start();
  await cluster.createPod('after-kill', { containers: [sleeps] });
  for (const name of [...names, 'after-kill']) await cluster.waitReady(name);
  expect(await chosen()).toEqual(before);
});
