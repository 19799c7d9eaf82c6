import { expect, test } from '@jest/globals';
import type { SandboxStats } from '../../podsandbox/stats-model.ts';
import type { Outgoing } from '../call.ts';
import { FakeDomain } from '../fake-domain.ts';
import type * as cri from '../gen/cri-types.ts';
import { containerConfig, sandboxConfig } from '../fake-request.ts';
import { parseContainerConfig } from '../parse-container-config.ts';
import { parseSandboxConfig } from '../parse-sandbox-config.ts';
import { catalogue, descriptorOf } from './catalogue.ts';
import { shapeDescriptors, shapePodMetrics } from './shape-metrics.ts';

const { signal } = new AbortController();

const pressure = { some: { avg10: 0, avg60: 0, avg300: 0, totalUs: 2_500_000n }, full: undefined };

/** A container of which everything is known. */
async function podWithContainer(): Promise<SandboxStats> {
  const domain = new FakeDomain();
  const imageId = `sha256:${'1'.repeat(64)}`;
  domain.addImage({ id: imageId });
  const metadata = { name: 'web', uid: 'u', namespace: 'ns', attempt: 0 };
  const pod = await domain.sandboxes.run(parseSandboxConfig(sandboxConfig({ metadata })), '', signal);
  const config = containerConfig({
    metadata: { name: 'app', attempt: 0 },
    image: { image: imageId, user_specified_image: 'registry/app:1' },
    linux: { resources: { cpu_quota: '50000', cpu_period: '100000' } },
  });
  const id = await domain.containers.create(pod, parseContainerConfig(config), signal);
  await domain.containers.start(id, signal);
  const [stats] = await domain.stats.of([pod], true);
  const [container] = stats?.containers ?? [];
  if (stats === undefined || container === undefined) throw new Error('no statistics');
  const figures = { ...container.figures, memoryPressure: pressure, ioPressure: pressure };
  return { ...stats, containers: [{ ...container, figures: figures as unknown as typeof container.figures }] };
}

const all = (pod: Outgoing<cri.PodSandboxMetrics>): readonly Outgoing<cri.Metric>[] => [
  ...(pod.metrics ?? []),
  ...(pod.container_metrics ?? []).flatMap(({ metrics }) => metrics ?? []),
];

const labelsOf = (metric: Outgoing<cri.Metric> | undefined): Record<string, string> => {
  const keys = shapeDescriptors().find(({ name }) => name === metric?.name)?.label_keys ?? [];
  return Object.fromEntries(keys.map((key, index) => [key, metric?.label_values?.[index] ?? '']));
};

test('every name has a value, of its type, with as many labels as its descriptor', async () => {
  const metrics = all(shapePodMetrics(await podWithContainer()));
  expect(new Set(metrics.map(({ name }) => name))).toEqual(new Set(Object.keys(catalogue)));
  const keys = new Map(shapeDescriptors().map(({ name, label_keys }) => [name, label_keys]));
  for (const { name = '', label_values, metric_type, value, timestamp } of metrics) {
    expect(label_values).toHaveLength(keys.get(name)?.length ?? -1);
    expect(metric_type).toBe(descriptorOf(name)?.type);
    expect(value?.value).toMatch(/^\d+$/);
    expect(timestamp).toMatch(/^\d+$/);
  }
  const series = metrics.map(({ name, label_values }) => JSON.stringify([name, label_values]));
  expect(new Set(series).size).toBe(series.length);
});

test('labels say of what container and pod a value is', async () => {
  const stats = await podWithContainer();
  const shaped = shapePodMetrics(stats);
  const [container] = shaped.container_metrics ?? [];
  const usage = container?.metrics?.find(({ name }) => name === 'container_cpu_usage_seconds_total');
  expect(usage?.value).toEqual({ value: '3' });
  expect(labelsOf(usage)).toEqual({
    ...{ id: container?.container_id, name: 'app', container: 'app', image: 'registry/app:1' },
    ...{ pod: 'web', namespace: 'ns', cpu: 'total' },
  });
  const received = shaped.metrics?.filter(({ name }) => name === 'container_network_receive_packets_total');
  expect(received?.map(labelsOf)).toEqual(
    ['eth0', 'net1'].map((name) => ({
      ...{ id: stats.sandbox.id, name: 'POD', container: 'POD', image: '' },
      ...{ pod: 'web', namespace: 'ns', interface: name },
    })),
  );
});

test('what is not known is left out; a layer that was counted earlier says when', async () => {
  const stats = await podWithContainer();
  const [container] = stats.containers;
  if (container === undefined) throw new Error('no container');
  const names = (changed: SandboxStats): Set<string | undefined> =>
    new Set(all(shapePodMetrics(changed)).map(({ name }) => name));
  const { descriptors: _, cpuPressure: __, writableLayer: ___, ...figures } = container.figures;
  const bare = { ...container, figures: figures as typeof container.figures };
  const left = names({ ...stats, containers: [bare], scratch: undefined });
  for (const name of [
    ...['container_file_descriptors', 'container_sockets', 'container_ulimits_soft'],
    ...['container_pressure_cpu_waiting_seconds_total', 'container_fs_usage_bytes', 'container_fs_limit_bytes'],
  ]) {
    expect(left).not.toContain(name);
  }
  const written = all(shapePodMetrics(stats)).find(({ name }) => name === 'container_fs_usage_bytes');
  expect(written).toMatchObject({ timestamp: '17', value: { value: '4096' } });
  const exited = { ...container, container: { ...container.container, state: 'exited' as const } };
  expect(shapePodMetrics({ ...stats, containers: [exited] }).container_metrics).toEqual([]);
});

test('limits are those in force', async () => {
  const stats = await podWithContainer();
  const [container] = stats.containers;
  if (container === undefined) throw new Error('no container');
  const limits = (resources: object | undefined): Record<string, string | undefined> => {
    const changed = { ...container, container: { ...container.container, resources } } as typeof container;
    const metrics = all(shapePodMetrics({ ...stats, containers: [changed] }));
    const specs = metrics.filter(({ name }) => name?.startsWith('container_spec_'));
    return Object.fromEntries(specs.map(({ name = '', value }) => [name.slice(15), value?.value]));
  };
  const none = { memory_limit_bytes: '0', memory_swap_limit_bytes: '0', memory_reservation_limit_bytes: '0' };
  expect(limits(undefined)).toEqual({ ...none, cpu_period: '100000', cpu_shares: '1024' });
  const unlimited = { cpuPeriod: 0n, cpuQuota: -1n, cpuShares: 2n, memoryLimitBytes: -1n, memorySwapLimitBytes: -1n };
  expect(limits({ ...unlimited, unified: { 'memory.min': 'max' } })).toEqual({
    ...none,
    ...{ cpu_period: '100000', cpu_shares: '2' },
  });
  const some = { cpuPeriod: 5n, cpuQuota: 4n, cpuShares: 3n, memoryLimitBytes: 2n, memorySwapLimitBytes: 1n };
  expect(limits({ ...some, unified: { 'memory.min': '7' } })).toEqual({
    ...{ cpu_period: '5', cpu_quota: '4', cpu_shares: '3' },
    ...{ memory_limit_bytes: '2', memory_swap_limit_bytes: '1', memory_reservation_limit_bytes: '7' },
  });
});
