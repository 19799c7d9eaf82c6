import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { status } from '@grpc/grpc-js';
import { AppError, ForeignError } from '../../platform/errors.ts';
import { silentLog } from '../../platform/log.ts';
import type { Outgoing } from '../call.ts';
import { CriClient } from '../client.ts';
import { FakeDomain } from '../fake-domain.ts';
import type * as cri from '../gen/cri-types.ts';
import { type CriServer, serveCri } from '../server.ts';
import { callsByOwner } from './by-owner.ts';
import type { HostRuntime } from './host-runtime.ts';

const hostNetwork = { security_context: { namespace_options: { network: 'NODE' } } } as const;
const imageId = `sha256:${'1'.repeat(64)}`;
const hostContainer = 'd'.repeat(64);
const bidirectional = [{ host_path: '/x', container_path: '/x', propagation: 'PROPAGATION_BIDIRECTIONAL' }] as const;

/** Pods of the host runtime, whose ids here and there are the same. */
class FakeHost {
  readonly endpoint = 'unix:///other.sock';
  streamUrl = 'http://127.0.0.1:2/portforward/theirs';
  readonly handlers = new Map([['host', 'runc']]);
  readonly calls: string[] = [];
  readonly pods: cri.PodSandbox[] = [];
  readonly images = new Set<string>();
  readonly containerList: cri.Container[] = [];
  readonly podMetrics: cri.PodSandboxMetrics[] = [];
  readonly descriptors: cri.MetricDescriptor[] = [];
  fail: Error | undefined;
  up = true;

  async run(_config: cri.PodSandboxConfig, handler: string, id = `${'c'.repeat(62)}${String(10 + this.pods.length)}`) {
    if (this.fail !== undefined) throw this.fail;
    this.calls.push(`run ${handler}`);
    const pod: Partial<cri.PodSandbox> = { id, state: 'SANDBOX_READY', labels: { side: 'host' } };
    this.pods.push(pod as cri.PodSandbox);
    return id;
  }

  async create(_pod: unknown, request: cri.CreateContainerRequest) {
    this.calls.push(`create ${request.config?.image?.image ?? ''}`);
    return hostContainer;
  }

  async call(name: string, request: object) {
    const { image } = request as { readonly image?: { readonly image: string } };
    this.calls.push(image === undefined ? name : `${name} ${image.image}`);
    if (name === 'ImageStatus') return { image: this.images.has(image?.image ?? '') ? { pinned: false } : null };
    if (this.fail !== undefined) throw this.fail;
    if (name === 'PullImage') this.images.add(imageId);
    if (name === 'PullImage') return { image_ref: imageId };
    if (name === 'PortForward') return { url: this.streamUrl };
    return { status: { id: 'theirs' } };
  }

  async findSandbox(prefix: string) {
    if (!this.up) throw new AppError('unavailable', 'the host runtime is not there');
    const found = this.pods.find(({ id }) => id.startsWith(prefix));
    return found === undefined ? undefined : { id: found.id, hostId: found.id };
  }

  async findContainer(prefix: string) {
    return hostContainer.startsWith(prefix) ? hostContainer : undefined;
  }

  async sandboxes() {
    return this.pods;
  }

  async containers() {
    return this.containerList;
  }

  async metrics() {
    return this.podMetrics;
  }

  async metricDescriptors() {
    return this.descriptors;
  }

  async state() {
    return this.up ? { up: true } : { up: false, message: 'gone' };
  }

  async status() {
    return { runtime_handlers: [{ name: 'runc', features: { recursive_read_only_mounts: true } }] };
  }
}

let folder: string;
let domain: FakeDomain;
let host: FakeHost;
let server: CriServer;
let client: CriClient;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-mixed-'));
  domain = new FakeDomain();
  host = new FakeHost();
  const runtime = {
    version: '0.1.0',
    handlers: ['kelyfos'],
    defaultHandler: 'kelyfos',
    cgroupDriver: 'cgroupfs' as const,
    mapsOwners: false,
    details: async () => ({}),
  };
  const theirs = host as unknown as HostRuntime;
  const { sandboxes, containers, resources, stats, events, images, archives, networks, streaming } = domain;
  const services = {
    ...{ sandboxes, containers, resources, stats, events, images, archives, networks, streaming, runtime },
    host: theirs,
  };
  server = await serveCri(join(folder, 'cri.sock'), services, silentLog());
  client = new CriClient(join(folder, 'cri.sock'), { timeoutMs: 10_000 });
  domain.addImage({ id: imageId, repoTags: ['localhost/app:1'], repoDigests: ['localhost/app@sha256:2'] });
});

afterEach(async () => {
  client.close();
  await server.close(100);
  await rm(folder, { recursive: true });
});

async function run(linux: Outgoing<cri.LinuxPodSandboxConfig> = {}, handler = ''): Promise<string> {
  const config = { metadata: { name: `p${String(Math.random())}`, uid: 'u', namespace: 'n', attempt: 0 }, linux };
  return (await client.call('RunPodSandbox', { config, runtime_handler: handler })).pod_sandbox_id;
}

async function create(pod: string, mounts: readonly Outgoing<cri.Mount>[] = []): Promise<string> {
  const request = {
    pod_sandbox_id: pod,
    sandbox_config: { metadata: { name: 'p', uid: 'u', namespace: 'n', attempt: 0 } },
    config: { metadata: { name: 'c' }, image: { image: 'localhost/app:1' }, mounts },
  };
  return (await client.call('CreateContainer', request)).container_id;
}

test('pods go where they have to, and lists have both', async () => {
  const own = await run();
  const theirs = [await run(hostNetwork), await run({}, 'host')];
  expect(host.calls).toEqual(['run ', 'run host']);
  expect((await client.call('ListPodSandbox', {})).items.map(({ id }) => id)).toEqual([own, ...theirs]);
  const filter = { label_selector: { side: 'host' } };
  expect((await client.call('ListPodSandbox', { filter })).items.map(({ id }) => id)).toEqual(theirs);
  expect(await Array.fromAsync(client.stream('StreamPodSandboxes', {}))).toHaveLength(2);
  expect((await client.call('PodSandboxStatus', { pod_sandbox_id: theirs[0] ?? '' })).status?.id).toBe('theirs');
  await expect(client.call('ListPodSandbox', { filter: { id: 'ccc' } })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
  });
});

test('every call about a pod or container there goes there', async () => {
  const pod = await run(hostNetwork);
  const container = await create(pod);
  host.calls.length = 0;
  for (const [rpc, field] of Object.entries(callsByOwner)) {
    await client.untyped(rpc, { [field]: field === 'container_id' ? container.slice(0, 13) : pod.slice(0, 64) });
  }
  expect(host.calls).toEqual(Object.keys(callsByOwner));
});

test('connections with ports of a pod there pass through our server, unless that would end TLS', async () => {
  const pod = await run(hostNetwork);
  const ours = await client.call('PortForward', { pod_sandbox_id: pod });
  expect(ours.url).toBe('http://127.0.0.1:1/portforward/token');
  expect(domain.streamRequests).toEqual([{ kind: 'portforward', relay: new URL(host.streamUrl) }]);
  host.streamUrl = 'https://127.0.0.1:2/portforward/theirs';
  expect((await client.call('PortForward', { pod_sandbox_id: pod })).url).toBe(host.streamUrl);
});

test('a prefix that both runtimes have is ambiguous', async () => {
  const own = await run();
  await host.run({} as cri.PodSandboxConfig, '', `${own.slice(0, 63)}x`);
  expect((await client.call('PodSandboxStatus', { pod_sandbox_id: own })).status?.id).toBe(own);
  const short = own.slice(0, 13);
  await expect(client.call('PodSandboxStatus', { pod_sandbox_id: short })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining('both runtimes'),
  });
  await expect(client.call('ListPodSandbox', { filter: { id: short } })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
  });
});

test('own pods need nothing of a host runtime that is away', async () => {
  const own = await run();
  host.up = false;
  expect((await client.call('PodSandboxStatus', { pod_sandbox_id: own })).status?.state).toBe('SANDBOX_READY');
  await create(own);
  await expect(client.call('StopPodSandbox', { pod_sandbox_id: 'e'.repeat(64) })).rejects.toMatchObject({
    code: status.UNAVAILABLE,
  });
  await client.call('StopPodSandbox', { pod_sandbox_id: own });
  const { status: state } = await client.call('Status', {});
  expect(state?.conditions.at(-1)).toMatchObject({ type: 'HostRuntimeReady', status: false });
});

test('a handler of the host runtime has its features', async () => {
  const { runtime_handlers: handlers } = await client.call('Status', {});
  expect(handlers.at(-1)).toMatchObject({ name: 'host', features: { recursive_read_only_mounts: true } });
});

test('an image is pulled there for the container that needs it, by digest', async () => {
  const pod = await run(hostNetwork);
  await create(pod);
  await create(pod);
  expect(host.calls.slice(1)).toEqual([
    `ImageStatus ${imageId}`,
    'PullImage localhost/app@sha256:2',
    `create ${imageId}`,
    `ImageStatus ${imageId}`,
    `create ${imageId}`,
  ]);
});

test('an image that cannot be pulled without credentials is absent until it is pulled again', async () => {
  const pod = await run(hostNetwork);
  const image = { image: 'localhost/app:1' };
  host.fail = new ForeignError(status.UNKNOWN, 'unauthorized');
  await expect(create(pod)).rejects.toMatchObject({
    code: status.UNKNOWN,
    details: expect.stringMatching(/localhost\/app@sha256:2.*unauthorized/),
  });
  expect((await client.call('ImageStatus', { image })).image).toBeNull();
  host.fail = undefined;
  await client.call('PullImage', { image, auth: { username: 'u', password: 'p' } });
  expect(host.calls.at(-1)).toBe('PullImage localhost/app:1');
  expect((await client.call('ImageStatus', { image })).image).not.toBeNull();
});

test('bidirectional propagation moves a pod without containers, and no other', async () => {
  const pod = await run();
  await create(pod, bidirectional);
  expect(host.pods.map(({ id }) => id)).toEqual([pod]);
  expect(domain.sandboxes.list()).toEqual([]);
  expect((await client.call('PodSandboxStatus', { pod_sandbox_id: pod })).status?.id).toBe('theirs');

  const busy = await run();
  await create(busy);
  await expect(create(busy, bidirectional)).rejects.toMatchObject({ code: status.FAILED_PRECONDITION });
  expect(domain.sandboxes.list()).toHaveLength(1);
});

test('a move that fails leaves a pod that is not ready: the kubelet makes a new one', async () => {
  const pod = await run();
  host.fail = new ForeignError(status.UNKNOWN, 'no room');
  await expect(create(pod, bidirectional)).rejects.toMatchObject({ code: status.UNKNOWN, details: 'no room' });
  expect((await client.call('PodSandboxStatus', { pod_sandbox_id: pod })).status?.state).toBe('SANDBOX_NOTREADY');
});

test("metrics of both, the host runtime's with our labels whatever its own are", async () => {
  const [mine, theirs] = [await run(), await run(hostNetwork)];
  Object.assign(host.pods[0] ?? {}, { metadata: { name: 'proxy', namespace: 'kube-system' } });
  const image = { image: imageId, user_specified_image: 'proxy:1' } as cri.ImageSpec;
  host.containerList.push({ id: hostContainer, metadata: { name: 'main', attempt: 0 }, image } as cri.Container);
  const keys = ['id', 'name'];
  host.descriptors.push(
    { name: 'container_cpu_usage_seconds_total', help: 'h', label_keys: keys },
    { name: 'container_fs_usage_bytes', help: 'h', label_keys: [...keys, 'device'] },
    { name: 'container_theirs', help: 'h', label_keys: [...keys, 'kind'] },
  );
  const metric = (name: string, ...label_values: string[]): cri.Metric => ({
    ...{ name, timestamp: '1', metric_type: 'COUNTER', value: { value: '5' }, label_values },
  });
  host.podMetrics.push({
    pod_sandbox_id: theirs,
    metrics: [metric('container_theirs', 'proxy', 'kube-system', theirs, 'x'), metric('container_undescribed', 'y')],
    container_metrics: [
      {
        container_id: hostContainer,
        metrics: [
          metric('container_cpu_usage_seconds_total'),
          metric('container_fs_usage_bytes', 'any', 'thing', '/dev/sda'),
          metric('container_fs_usage_bytes'),
        ],
      },
    ],
  });
  const { pod_metrics: pods } = await client.call('ListPodSandboxMetrics', {});
  expect(pods.map(({ pod_sandbox_id: id }) => id)).toEqual([mine, theirs]);
  const ofPod = [theirs, 'POD', '', 'POD', 'proxy', 'kube-system'];
  const ofContainer = [hostContainer, 'main', 'proxy:1', 'main', 'proxy', 'kube-system'];
  expect(pods[1]?.metrics).toEqual([metric('container_theirs', ...ofPod, 'x')]);
  expect(pods[1]?.container_metrics[0]?.metrics).toEqual([
    metric('container_cpu_usage_seconds_total', ...ofContainer, 'total'),
    metric('container_fs_usage_bytes', ...ofContainer, '/dev/sda'),
  ]);
  const { descriptors } = await client.call('ListMetricDescriptors', {});
  expect(descriptors.filter(({ name }) => name === 'container_cpu_usage_seconds_total')).toHaveLength(1);
  expect(descriptors.at(-1)).toEqual({
    ...{ name: 'container_theirs', help: 'h' },
    label_keys: ['id', 'name', 'image', 'container', 'pod', 'namespace', 'kind'],
  });
});
