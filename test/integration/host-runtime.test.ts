import { mkdir, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { status } from '@grpc/grpc-js';
import { execa } from 'execa';
import type * as cri from '../../src/cri/gen/cri-types.ts';
import { TestNetwork } from '../harness/cni.ts';
import { TestContainerd } from '../harness/containerd.ts';
import { crictlPath } from '../harness/crictl.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { type Pod, TestNode } from '../harness/node.ts';
import { askPort, freePort, interact, waitForText } from '../harness/streaming.ts';

let network: TestNetwork;
let containerd: TestContainerd;
let node: TestNode;
/** In a virtual machine, and there all the time. */
let vm: Pod;
let inVm: string;

const hostNetwork = { security_context: { namespace_options: { network: 'NODE', pid: 'POD', ipc: 'POD' } } } as const;
const labels = { app: 'x' };

beforeAll(async () => {
  network = await TestNetwork.create();
  containerd = await TestContainerd.start({ network });
  node = await TestNode.start({
    config: {
      host_runtime: { endpoint: containerd.endpoint },
      handlers: { host: { runtime: 'host', host_handler: 'runc' } },
      // The only virtual machines here are single ones.
      vm: { classes: { default: { pool: 0, template: false } } },
    },
  });
  vm = await node.runPod({ name: 'vm' });
  inVm = await node.startContainer(vm);
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
  await containerd[Symbol.asyncDispose]();
  await network[Symbol.asyncDispose]();
});

async function hostPod(name: string, linux: object = hostNetwork, handler = ''): Promise<Pod> {
  return node.runPod({ name, handler, config: { hostname: '', labels, linux } });
}

async function podIds(filter: Partial<cri.PodSandboxFilter> | null = null): Promise<readonly string[]> {
  const { items } = await node.daemon.cri.call('ListPodSandbox', filter === null ? {} : { filter });
  return items.map(({ id }) => id).toSorted();
}

async function containerIds(filter: Partial<cri.ContainerFilter> | null = null): Promise<readonly string[]> {
  const { containers } = await node.daemon.cri.call('ListContainers', filter === null ? {} : { filter });
  return containers.map(({ id }) => id).toSorted();
}

async function eventually(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 30_000; !(await holds());) {
    if (Date.now() > deadline) throw new Error('waited in vain for 30 s');
    await delay(20);
  }
}

afterEach(async () => {
  for (const id of await podIds()) if (id !== vm.id) await node.removePod({ id, config: {} });
});

test('a pod in the network of the host lives beside one in a virtual machine', async () => {
  const { cri: client } = node.daemon;
  const host = await hostPod('beside');
  const onHost = await node.startContainer(host, { command: ['sh', '-c', 'echo started; sleep 1000'] });

  const { stdout: hostname } = await execa('hostname');
  expect([await node.sh(onHost, 'hostname'), await node.sh(inVm, 'hostname')]).toEqual([hostname, 'vm']);
  expect(await node.sh(onHost, 'readlink /proc/self/ns/net')).toBe(await readlink('/proc/self/ns/net'));

  expect(await podIds()).toEqual([vm.id, host.id].toSorted());
  expect(await podIds({ label_selector: labels })).toEqual([host.id]);
  expect(await podIds({ id: vm.id })).toEqual([vm.id]);
  expect(await containerIds()).toEqual([inVm, onHost].toSorted());
  expect(await containerIds({ pod_sandbox_id: host.id.slice(0, 13) })).toEqual([onHost]);
  expect(await containerIds({ label_selector: { none: 'such' } })).toEqual([]);

  // What was asked for comes back, and nothing of how the pod is known to be ours.
  const found = await client.call('PodSandboxStatus', { pod_sandbox_id: host.id.slice(0, 13), verbose: true });
  expect(found.status).toMatchObject({ id: host.id, state: 'SANDBOX_READY', labels, runtime_handler: '' });
  expect(found.status?.linux?.namespaces?.options?.network).toBe('NODE');
  const seen = [found, await client.call('ListPodSandbox', {}), await client.call('ListContainers', {})];
  expect(JSON.stringify(seen)).not.toContain('runtime.kelyfos.io');
  expect((await node.status(onHost)).image_id).toBe((await node.status(inVm)).image_id);
  expect(await node.logLines(onHost)).toMatchObject([{ stream: 'stdout', content: 'started' }]);

  // Streams are the other runtime's own, at its port, but for those that ours stands between.
  const urls = [
    await client.call('Exec', { container_id: onHost, cmd: ['true'], stdout: true }),
    await client.call('Attach', { container_id: onHost, stdout: true }),
    await client.call('PortForward', { pod_sandbox_id: host.id, port: [80] }),
  ].map(({ url }) => new URL(url));
  expect(urls.map(({ pathname }) => pathname.split('/')[1])).toEqual(['exec', 'attach', 'portforward']);
  const [execAt, attachAt, forwardAt] = urls.map(({ host: at }) => at);
  expect(attachAt).toBe(execAt);
  expect(forwardAt).not.toBe(execAt);
  await expect(client.call('StartContainer', { container_id: onHost })).rejects.toMatchObject({
    code: status.UNKNOWN,
    details: expect.stringContaining('container is in CONTAINER_RUNNING state'),
  });

  await node.removePod(host);
  expect(await podIds()).toEqual([vm.id]);
  expect((await containerd.cri.call('ListPodSandbox', {})).items).toEqual([]);
});

test.each(['spdy', 'websocket'] as const)('crictl forwards ports of a host pod over %s', async (transport) => {
  const host = await hostPod(`forward-${transport}`);
  const port = await freePort();
  await node.startContainer(host, { command: ['httpd', '-f', '-p', `127.0.0.1:${String(port)}`, '-h', '/www'] });
  await eventually(async () => (await askPort(port, 'GET / HTTP/1.0\r\n\r\n').catch(() => '')) !== '');
  const forward = ['port-forward', '--transport', transport, host.id, `0:${String(port)}`];
  const forwarder = interact(crictlPath, node.daemon.crictl.arguments(...forward));
  const [, local] = await waitForText(forwarder.stdout, /127\.0\.0\.1:(\d+) ->/);
  const pages = await Promise.all([1, 2].map(async () => askPort(Number(local), 'GET /index.html HTTP/1.0\r\n\r\n')));
  expect(pages.map((page) => page.includes('It works.'))).toEqual([true, true]);
  forwarder.kill('SIGTERM');
  await forwarder;
});

test('metrics of both have the labels that the descriptors say', async () => {
  const { cri: client } = node.daemon;
  // Without a cgroup of its own, containerd measures nothing of a pod.
  const host = await hostPod('metered', { ...hostNetwork, cgroup_parent: '/k8s.io' });
  const onHost = await node.startContainer(host);
  const { descriptors } = await client.call('ListMetricDescriptors', {});
  const keys = new Map(descriptors.map(({ name, label_keys }) => [name, label_keys]));
  expect(keys.size).toBe(descriptors.length);
  const { pod_metrics: pods } = await client.call('ListPodSandboxMetrics', {});
  expect(pods.map(({ pod_sandbox_id: id }) => id).toSorted()).toEqual([vm.id, host.id].toSorted());
  const theirs = pods.find(({ pod_sandbox_id: id }) => id === host.id);
  const [container] = theirs?.container_metrics ?? [];
  expect(container?.container_id).toBe(onHost);
  const names = container?.metrics.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(['container_cpu_usage_seconds_total', 'container_last_seen']));
  for (const { name, label_values: values } of [...(theirs?.metrics ?? []), ...(container?.metrics ?? [])]) {
    expect(values).toHaveLength(keys.get(name)?.length ?? -1);
    expect(values.slice(4, 6)).toEqual(['metered', 'test']);
  }
});

test('figures, limits and events of a pod in the host runtime', async () => {
  const { cri: client } = node.daemon;
  const leave = new AbortController();
  const seen: string[] = [];
  const reading = (async () => {
    for await (const event of client.stream('GetContainerEvents', {}, { signal: leave.signal }))
      seen.push(`${event.container_event_type} ${event.container_id}`);
  })().catch((error: unknown) => {
    if (!leave.signal.aborted) throw error;
  });
  const another = await node.startContainer(vm, { name: 'another' });
  await eventually(() => seen.includes(`CONTAINER_STARTED_EVENT ${another}`));
  // As a kubelet gives one: containerd has no figures of a pod without.
  const host = await hostPod('measured', { ...hostNetwork, cgroup_parent: '/k8s.io' });
  const onHost = await node.startContainer(host);
  await eventually(() => seen.includes(`CONTAINER_STARTED_EVENT ${onHost}`));

  const ids = (stats: readonly { readonly attributes: { readonly id: string } | null }[]): readonly string[] =>
    stats.map(({ attributes }) => attributes?.id ?? '').toSorted();
  const pods = await client.call('ListPodSandboxStats', {});
  expect(ids(pods.stats)).toEqual([vm.id, host.id].toSorted());
  const containers = await client.call('ListContainerStats', {});
  expect(ids(containers.stats)).toEqual([inVm, another, onHost].toSorted());
  const ofPod = await client.call('ListContainerStats', { filter: { pod_sandbox_id: host.id } });
  expect(ids(ofPod.stats)).toEqual([onHost]);
  const { stats } = await client.call('ContainerStats', { container_id: onHost });
  expect(Number(stats?.cpu?.usage_core_nano_seconds?.value)).toBeGreaterThan(0);
  const { stats: podStats } = await client.call('PodSandboxStats', { pod_sandbox_id: host.id });
  expect(ids(podStats?.linux?.containers ?? [])).toEqual([onHost]);

  const linux = { cpu_shares: '512' };
  await client.call('UpdateContainerResources', { container_id: onHost, linux });
  expect((await node.status(onHost)).resources?.linux?.cpu_shares).toBe('512');

  await node.removePod(host);
  await client.call('StopContainer', { container_id: another, timeout: '0' });
  await client.call('RemoveContainer', { container_id: another });
  await eventually(() => seen.includes(`CONTAINER_DELETED_EVENT ${host.id}`));
  leave.abort();
  await reading;
});

test('a handler of the host runtime, and pods there that are not ours', async () => {
  const { cri: client } = node.daemon;
  const config = { metadata: { name: 'foreign', uid: 'f', namespace: 'other', attempt: 0 }, linux: hostNetwork };
  const { pod_sandbox_id: foreign } = await containerd.cri.call('RunPodSandbox', { config });
  const host = await hostPod('by-handler', hostNetwork, 'host');

  expect(await podIds()).toEqual([vm.id, host.id].toSorted());
  expect(await node.podStatus(host)).toMatchObject({ runtime_handler: 'host' });
  await expect(client.call('PodSandboxStatus', { pod_sandbox_id: foreign })).rejects.toMatchObject({
    code: status.NOT_FOUND,
  });
  // Unknown here, so there is nothing to do.
  await client.call('StopPodSandbox', { pod_sandbox_id: foreign });
  expect((await containerd.cri.call('PodSandboxStatus', { pod_sandbox_id: foreign })).status).toMatchObject({
    state: 'SANDBOX_READY',
  });
  const { runtime_handlers: handlers, status: state } = await client.call('Status', {});
  expect(handlers.map(({ name }) => name)).toEqual(['', 'kelyfos', 'host']);
  expect(state?.conditions).toContainEqual({ type: 'HostRuntimeReady', status: true, reason: '', message: '' });
  await containerd.cri.call('RemovePodSandbox', { pod_sandbox_id: foreign });
  await node.removePod(host);
});

test('a pod whose container needs bidirectional mount propagation moves, and keeps its id', async () => {
  const source = join(node.daemon.scratch, 'shared');
  await mkdir(join(source, 'made'), { recursive: true });
  await execa('mount', ['--bind', source, source]);
  try {
    await execa('mount', ['--make-shared', source]);
    const linux = { security_context: { privileged: true } };
    const pod = await hostPod('moves', linux);
    expect(await node.vmOf(pod)).toMatchObject({ origin: 'cold' });
    const mounts = [
      { host_path: source, container_path: '/shared', propagation: 'PROPAGATION_BIDIRECTIONAL' as const },
    ];
    const id = await node.startContainer(pod, { config: { linux, mounts } });

    expect((await node.status(id)).mounts).toMatchObject([{ propagation: 'PROPAGATION_BIDIRECTIONAL' }]);
    expect(await podIds()).toEqual([vm.id, pod.id].toSorted());
    expect(await containerIds({ pod_sandbox_id: pod.id })).toEqual([id]);
    expect(await node.podStatus(pod)).toMatchObject({ id: pod.id, state: 'SANDBOX_READY' });
    await node.sh(id, 'mount --bind /etc /shared/made');
    expect(await readdir(join(source, 'made'))).toContain('passwd');

    // Another one of a pod whose containers are in a virtual machine cannot.
    await expect(node.createContainer(vm, { config: { linux, mounts } })).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: expect.stringContaining('runtime = "host"'),
    });
    await node.removePod(pod);
    expect(await podIds()).toEqual([vm.id]);
  } finally {
    await execa('umount', ['--recursive', '--lazy', source]);
  }
});

test('restarts of either side change nothing; while the host runtime is away its pods stay listed', async () => {
  const { cri: client } = node.daemon;
  const host = await hostPod('survivor');
  const onHost = await node.startContainer(host);
  const pods = [vm.id, host.id].toSorted();

  await node.daemon.stop();
  await node.daemon.start();
  expect([await podIds(), await containerIds()]).toEqual([pods, [inVm, onHost].toSorted()]);
  expect(await node.sh(onHost, 'echo $HOME')).not.toBe('');

  // Hung: own pods answer, lists as well and in about a second.
  containerd.suspend();
  const before = performance.now();
  expect(await podIds()).toEqual(pods);
  const hungMs = performance.now() - before;
  expect(await node.sh(inVm, 'echo here')).toBe('here');
  expect((await client.call('Status', {})).status?.conditions.map((one) => [one.type, one.status])).toEqual([
    ['RuntimeReady', true],
    ['NetworkReady', true],
    ['HostRuntimeReady', false],
  ]);
  containerd.resume();
  expect(hungMs).toBeLessThan(15_000);

  // Down, and the daemon starts meanwhile.
  await containerd.stop();
  await node.daemon.stop();
  await node.daemon.start();
  expect([await podIds(), await containerIds()]).toEqual([pods, [inVm, onHost].toSorted()]);
  await expect(client.call('ContainerStatus', { container_id: onHost })).rejects.toMatchObject({
    code: status.UNAVAILABLE,
    details: expect.stringContaining(`the host runtime at ${containerd.endpoint} is not there`),
  });

  // The first call after it has come back already goes through.
  await containerd.start();
  await client.call('StopContainer', { container_id: onHost, timeout: '0' });
  expect((await node.status(onHost)).state).toBe('CONTAINER_EXITED');
  await node.removePod(host);
  expect(await podIds()).toEqual([vm.id]);
});

test('an image comes into the host runtime when a pod there needs it, and goes from both', async () => {
  const { cri: client } = node.daemon;
  const images = async () =>
    (await containerd.cri.call('ListImages', {})).images.flatMap(({ repo_digests: all }) => all);
  await client.call('RemoveImage', { image: { image: node.image } });
  const sandboxConfig = { metadata: { name: 'x', uid: 'x', namespace: 'x', attempt: 0 }, linux: hostNetwork };
  const { image_ref: id } = await client.call('PullImage', { image: { image: node.image } });
  expect((await images()).filter((name) => name.includes('busybox'))).toEqual([]);
  await client.call('PullImage', { image: { image: node.image }, sandbox_config: sandboxConfig });
  expect((await images()).filter((name) => name.includes('busybox'))).toHaveLength(1);
  expect((await containerd.cri.call('ImageStatus', { image: { image: id } })).image?.id).toBe(id);
  const { image_filesystems: fileSystems } = await client.call('ImageFsInfo', {});
  expect(fileSystems.map(({ fs_id: at }) => at?.mountpoint)).toEqual([
    expect.stringContaining(node.daemon.root),
    expect.stringContaining(containerd.folder),
  ]);
  await client.call('RemoveImage', { image: { image: id } });
  expect((await images()).filter((name) => name.includes('busybox'))).toEqual([]);
  await client.call('PullImage', { image: { image: node.image } });
});

test('without an endpoint such pods are refused, with what to configure', async () => {
  await using alone = await TestDaemon.start({
    config: { vm: { classes: { default: { pool: 0, template: false } } } },
  });
  const config = { metadata: { name: 'x', uid: 'x', namespace: 'x', attempt: 0 }, linux: hostNetwork };
  await expect(alone.cri.call('RunPodSandbox', { config })).rejects.toMatchObject({
    code: status.UNIMPLEMENTED,
    details: expect.stringContaining('set endpoint in [host_runtime]'),
  });
});
