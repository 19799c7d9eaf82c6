import { link, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { status } from '@grpc/grpc-js';
import pino from 'pino';

import { FakeDomain } from './fake-domain.ts';
import { AppError } from '../platform/errors.ts';
import { silentLog } from '../platform/log.ts';
import { CriClient } from './client.ts';
import { type CriServer, serveCri } from './server.ts';
import type { CriServices } from './services.ts';

const linux = { uid: 'u', namespace: 'ns', attempt: 0 };
const imageId = `sha256:${'1'.repeat(64)}`;

let folder: string;
let socket: string;
let domain: FakeDomain;
let server: CriServer;
let client: CriClient;
let logged: string[];

function services(): CriServices {
  return {
    sandboxes: domain.sandboxes,
    containers: domain.containers,
    resources: domain.resources,
    stats: domain.stats,
    events: domain.events,
    images: domain.images,
    archives: domain.archives,
    networks: domain.networks,
    streaming: domain.streaming,
    runtime: {
      version: '0.1.0',
      handlers: ['kelyfos', 'big'],
      defaultHandler: 'kelyfos',
      cgroupDriver: 'cgroupfs',
      mapsOwners: false,
      details: async () => ({ config: { root: '/x' }, version: 'text' }),
    },
  };
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-cri-'));
  socket = join(folder, 'cri.sock');
  domain = new FakeDomain();
  logged = [];
  const sink = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      logged.push(chunk.toString());
      done();
    },
  });
  server = await serveCri(socket, services(), pino({ level: 'debug', base: null }, sink));
  client = new CriClient(socket);
});

afterEach(async () => {
  client.close();
  await server.close(100);
  await rm(folder, { recursive: true });
});

async function sandbox(name = 'web', more: object = {}): Promise<string> {
  const { pod_sandbox_id: id } = await client.untyped('RunPodSandbox', {
    config: { metadata: { ...linux, name }, log_directory: '/var/log/pods/x', ...more },
  });
  return id as string;
}

async function container(sandboxId: string, name = 'app', more: object = {}): Promise<string> {
  domain.addImage({ id: imageId, repoTags: ['localhost/app:1'] });
  const { container_id: id } = await client.untyped('CreateContainer', {
    pod_sandbox_id: sandboxId,
    config: {
      metadata: { name },
      image: { image: imageId, user_specified_image: 'app:1' },
      log_path: `${name}/0.log`,
      ...more,
    },
  });
  return id as string;
}

describe('version and status', () => {
  test('Version says what the kubelet insists on, whatever is asked', async () => {
    for (const version of ['v1', '0.1.0', '']) {
      expect(await client.untyped('Version', { version })).toEqual({
        version: '0.1.0',
        runtime_name: 'kelyfos',
        runtime_version: '0.1.0',
        runtime_api_version: 'v1',
      });
    }
  });

  test('Status lists conditions, handlers and features', async () => {
    domain.network = { ready: false, reason: 'NoNetworkConfig', message: 'no file in /etc/cni/net.d' };
    const features = { recursive_read_only_mounts: true, user_namespaces: false };
    expect(await client.untyped('Status', {})).toEqual({
      status: {
        conditions: [
          { type: 'RuntimeReady', status: true, reason: '', message: '' },
          { type: 'NetworkReady', status: false, reason: 'NoNetworkConfig', message: 'no file in /etc/cni/net.d' },
        ],
      },
      runtime_handlers: [
        { name: '', features },
        { name: 'big', features },
        { name: 'kelyfos', features },
      ],
      features: { supplemental_groups_policy: true, user_namespaces_host_network: false, mount_options: false },
      info: {},
    });
  });

  test('verbose Status has whole JSON objects or plain text', async () => {
    domain.network = { ready: true, reason: '', message: '', configuration: { name: 'net' } };
    const { info } = await client.untyped('Status', { verbose: true });
    expect(info).toEqual({
      cniconfig: '{"name":"net"}',
      lastCNILoadStatus: 'OK',
      config: '{"root":"/x"}',
      version: 'text',
    });
  });

  test('RuntimeConfig and UpdateRuntimeConfig', async () => {
    expect(await client.untyped('RuntimeConfig', {})).toEqual({ linux: { cgroup_driver: 'CGROUPFS' } });
    const update = (cidr: string) =>
      client.untyped('UpdateRuntimeConfig', { runtime_config: { network_config: { pod_cidr: cidr } } });
    expect(await update('10.1.0.0/24,fd00:1::/64')).toEqual({});
    expect(domain.podCidrs).toEqual(['10.1.0.0/24', 'fd00:1::/64']);
    expect(await client.untyped('UpdateRuntimeConfig', {})).toEqual({});
    expect(domain.podCidrs).toEqual([]);
  });
});

describe('pod sandboxes', () => {
  test('status echoes what was asked for', async () => {
    const config = {
      labels: { 'io.kubernetes.pod.uid': 'ü', empty: '' },
      annotations: { a: 'x\ny' },
      linux: { security_context: { namespace_options: { pid: 'CONTAINER' } } },
    };
    const id = await sandbox('web', config);
    const { status: found, info } = await client.untyped('PodSandboxStatus', { pod_sandbox_id: id });
    expect(found).toMatchObject({
      id,
      metadata: { name: 'web', uid: 'u', namespace: 'ns', attempt: 0 },
      state: 'SANDBOX_READY',
      network: { ip: '10.1.0.2', additional_ips: [{ ip: 'fd00::2' }] },
      linux: { namespaces: { options: { network: 'POD', pid: 'CONTAINER', ipc: 'POD', userns_options: null } } },
      labels: config.labels,
      annotations: config.annotations,
      runtime_handler: '',
    });
    expect((found as { created_at: string }).created_at).not.toBe('0');
    expect(info).toEqual({});
  });

  test('verbose status is one JSON object', async () => {
    const id = await sandbox();
    const { info } = await client.untyped('PodSandboxStatus', { pod_sandbox_id: id, verbose: true });
    expect(JSON.parse((info as { info: string }).info)).toMatchObject({
      pid: 4242,
      vm: { origin: 'pool' },
      startup: [
        {
          request: 'RunPodSandbox',
          startedAt: '1700000000000000000',
          ms: 7,
          steps: [{ name: 'claim', startMs: 0.5, ms: 6, depth: 0 }],
        },
      ],
    });
  });

  test('prefixes are resolved, ambiguous and empty ones refused', async () => {
    const id = await sandbox();
    await expect(client.untyped('PodSandboxStatus', { pod_sandbox_id: id.slice(0, 13) })).resolves.toMatchObject({
      status: { id },
    });
    await expect(client.untyped('PodSandboxStatus', { pod_sandbox_id: '' })).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
    });
    while (
      new Set((await list('ListPodSandbox')).map((other) => other[0])).size === (await list('ListPodSandbox')).length
    ) {
      await sandbox(`more-${String((await list('ListPodSandbox')).length)}`);
    }
    const ids = await list('ListPodSandbox');
    const shared = ids.map((other) => other.slice(0, 1)).find((digit, index, all) => all.indexOf(digit) !== index);
    await expect(client.untyped('PodSandboxStatus', { pod_sandbox_id: shared })).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
    });
  });

  test('stop and remove accept unknown ids, status does not', async () => {
    const unknown = { pod_sandbox_id: 'f'.repeat(64) };
    expect(await client.untyped('StopPodSandbox', unknown)).toEqual({});
    expect(await client.untyped('RemovePodSandbox', unknown)).toEqual({});
    await expect(client.untyped('PodSandboxStatus', unknown)).rejects.toMatchObject({ code: status.NOT_FOUND });
  });

  test('a stopped sandbox is not ready and has no address', async () => {
    const id = await sandbox();
    await client.untyped('StopPodSandbox', { pod_sandbox_id: id });
    const { status: found } = await client.untyped('PodSandboxStatus', { pod_sandbox_id: id });
    expect(found).toMatchObject({ state: 'SANDBOX_NOTREADY', network: { ip: '', additional_ips: [] } });
  });

  test('the same name twice is an error, an unknown handler too', async () => {
    await sandbox();
    await expect(sandbox()).rejects.toMatchObject({ code: status.ALREADY_EXISTS });
    await expect(
      client.untyped('RunPodSandbox', { config: { metadata: { ...linux, name: 'x' } }, runtime_handler: 'nope' }),
    ).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: 'runtime_handler "nope" is not configured (there are: kelyfos, big)',
    });
  });

  test('filters: state 0 is a condition, an empty filter is none, an unknown id matches nothing', async () => {
    const [a, b] = [await sandbox('a', { labels: { app: 'x' } }), await sandbox('b')];
    await client.untyped('StopPodSandbox', { pod_sandbox_id: b });
    const by = async (filter: object | null): Promise<string[]> => list('ListPodSandbox', filter);
    expect(await by(null)).toEqual([a, b]);
    expect(await by({})).toEqual([a, b]);
    expect(await by({ state: { state: 'SANDBOX_READY' } })).toEqual([a]);
    expect(await by({ state: {} })).toEqual([a]);
    expect(await by({ state: { state: 'SANDBOX_NOTREADY' } })).toEqual([b]);
    expect(await by({ label_selector: { app: 'x' } })).toEqual([a]);
    expect(await by({ label_selector: { app: 'y' } })).toEqual([]);
    expect(await by({ id: 'zzz' })).toEqual([]);
    expect(await by({ id: b.slice(0, 20), state: {} })).toEqual([]);
  });

  test('StreamPodSandboxes says the same as the list', async () => {
    for (let i = 0; i < 65; i++) await sandbox(`pod-${String(i)}`);
    const messages = await Array.fromAsync(client.stream('StreamPodSandboxes', {}));
    expect(messages.length).toBeGreaterThan(1);
    const streamed = messages.flatMap((message) => message.pod_sandboxes.map(({ id }) => id));
    expect(streamed).toEqual(await list('ListPodSandbox'));
  });
});

async function list(rpc: 'ListPodSandbox' | 'ListContainers', filter: object | null = null): Promise<string[]> {
  const response = await client.untyped(rpc, { filter });
  return ((response['items'] ?? response['containers']) as { id: string }[]).map(({ id }) => id);
}

describe('containers', () => {
  test('live through create, start, exit and remove, with everything echoed', async () => {
    const pod = await sandbox();
    const config = {
      labels: { 'io.kubernetes.container.name': 'app' },
      annotations: { 'io.kubernetes.container.restartCount': '0' },
      mounts: [
        { host_path: '/etc/x', container_path: '/x', readonly: true, propagation: 'PROPAGATION_HOST_TO_CONTAINER' },
      ],
      stop_signal: 'SIGNAL_SIGUSR1',
      linux: { resources: { cpu_quota: -1, memory_limit_in_bytes: '9007199254740993' } },
    };
    const id = await container(pod, 'app', config);
    const created = await client.untyped('ContainerStatus', { container_id: id });
    expect(created['status']).toMatchObject({
      id,
      metadata: { name: 'app', attempt: 0 },
      state: 'CONTAINER_CREATED',
      started_at: '0',
      image: { image: imageId, user_specified_image: 'app:1' },
      image_id: imageId,
      image_ref: imageId,
      labels: config.labels,
      annotations: config.annotations,
      mounts: [{ ...config.mounts[0], image: null, selinux_relabel: false, recursive_read_only: false }],
      log_path: '/var/log/pods/x/app/0.log',
      stop_signal: 'SIGNAL_SIGUSR1',
      resources: { linux: { cpu_quota: '-1', memory_limit_in_bytes: '9007199254740993' } },
      user: { linux: { uid: '0', gid: '0', supplemental_groups: [] } },
    });

    await client.untyped('StartContainer', { container_id: id });
    await expect(client.untyped('StartContainer', { container_id: id })).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
    });
    await client.untyped('ReopenContainerLog', { container_id: id });
    expect(await list('ListContainers', { state: { state: 'CONTAINER_RUNNING' } })).toEqual([id]);

    domain.exit(id, 3);
    const ended = await client.untyped('ContainerStatus', { container_id: id });
    expect(ended['status']).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: 3, reason: 'Error' });
    await expect(client.untyped('ReopenContainerLog', { container_id: id })).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
    });

    await client.untyped('RemoveContainer', { container_id: id });
    await client.untyped('RemoveContainer', { container_id: id });
    await expect(client.untyped('ContainerStatus', { container_id: id })).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
  });

  test('are listed by sandbox, prefix, label and state', async () => {
    const [one, two] = [await sandbox('one'), await sandbox('two')];
    const [a, b] = [await container(one, 'a', { labels: { x: '1' } }), await container(two, 'b')];
    expect(await list('ListContainers', { pod_sandbox_id: one })).toEqual([a]);
    expect(await list('ListContainers', { pod_sandbox_id: 'nothing' })).toEqual([]);
    expect(await list('ListContainers', { id: b.slice(0, 20) })).toEqual([b]);
    expect(await list('ListContainers', { label_selector: { x: '1' } })).toEqual([a]);
    expect(await list('ListContainers', { state: {} })).toEqual([a, b]);
    const messages = await Array.fromAsync(client.stream('StreamContainers', { filter: { pod_sandbox_id: two } }));
    expect(messages).toMatchObject([{ containers: [{ id: b, pod_sandbox_id: two }] }]);
  });

  test('stop hands on the time-out and accepts unknown ids', async () => {
    const id = await container(await sandbox());
    await client.untyped('StopContainer', { container_id: id, timeout: 30 });
    await client.untyped('StopContainer', { container_id: id, timeout: -5 });
    await client.untyped('StopContainer', { container_id: id, timeout: '9223372036854775807' });
    await client.untyped('StopContainer', { container_id: 'f'.repeat(64) });
    expect(domain.calls).toEqual([`stop ${id} 30`, `stop ${id} 0`, `stop ${id} 2147483`]);
  });

  test('ExecSync answers with a non-zero code, and with DEADLINE_EXCEEDED when time is up', async () => {
    const id = await container(await sandbox());
    await client.untyped('StartContainer', { container_id: id });
    domain.execResult = { stdout: Buffer.from([0, 255]), stderr: new Uint8Array(), exitCode: 7 };
    expect(await client.untyped('ExecSync', { container_id: id, cmd: ['false'], timeout: 5 })).toEqual({
      stdout: Buffer.from([0, 255]),
      stderr: Buffer.alloc(0),
      exit_code: 7,
    });
    await expect(client.untyped('ExecSync', { container_id: id })).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
    });
    domain.failures.set('execSync', new AppError('deadline', 'command timed out'));
    await expect(client.untyped('ExecSync', { container_id: id, cmd: ['sleep'] })).rejects.toMatchObject({
      code: status.DEADLINE_EXCEEDED,
      details: 'command timed out',
    });
  });
});

describe('images', () => {
  test('an absent image is an answer without an image', async () => {
    expect(await client.untyped('ImageStatus', { image: { image: 'nope' } })).toEqual({ image: null, info: {} });
    await expect(client.untyped('ImageStatus', {})).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
  });

  test('users are told apart: number, name, none', async () => {
    const image = (user: string) => ({
      entrypoint: [],
      cmd: [],
      env: [],
      workingDir: '',
      user,
      stopSignal: '',
      volumes: [],
      labels: {},
    });
    domain.addImage({ id: 'sha256:0', config: image('0:5') });
    domain.addImage({ id: 'sha256:1', config: image('nobody:nogroup') });
    domain.addImage({ id: 'sha256:2', config: image('') });
    const { images } = await client.untyped('ListImages', {});
    expect(images).toMatchObject([
      { uid: { value: '0' }, username: '' },
      { uid: null, username: 'nobody' },
      { uid: null, username: '' },
    ]);
  });

  test('pull, list by name, remove twice', async () => {
    const { image_ref: id } = await client.untyped('PullImage', { image: { image: 'localhost/app:1' } });
    expect(await client.untyped('ListImages', { filter: { image: { image: 'localhost/app:1' } } })).toMatchObject({
      images: [{ id, size: '4096' }],
    });
    expect(await client.untyped('ListImages', { filter: { image: { image: 'other' } } })).toEqual({ images: [] });
    expect(await Array.fromAsync(client.stream('StreamImages', {}))).toMatchObject([{ images: [{ id }] }]);
    await client.untyped('RemoveImage', { image: { image: id } });
    await client.untyped('RemoveImage', { image: { image: id } });
    expect(await client.untyped('ListImages', {})).toEqual({ images: [] });
    expect(await Array.fromAsync(client.stream('StreamImages', {}))).toEqual([]);
  });

  test('credentials reach the domain and not the log', async () => {
    const secrets = { password: 'pa55word', auth: 'YTpi', identity_token: 'id-t0ken', registry_token: 'reg-t0ken' };
    await client.untyped('PullImage', {
      image: { image: 'a' },
      auth: { username: 'me', server_address: 'reg', ...secrets },
    });
    await client.untyped('PullImage', { image: { image: 'a' }, auth: { server_address: 'reg' } });
    domain.failures.set('pull', new Error('boom'));
    await expect(client.untyped('PullImage', { image: { image: 'a' }, auth: secrets })).rejects.toMatchObject({
      code: status.INTERNAL,
    });
    expect(domain.auths[0]).toMatchObject({ username: 'me', password: 'pa55word', serverAddress: 'reg' });
    expect(domain.auths[1]).toBeUndefined();
    for (const secret of Object.values(secrets)) expect(logged.join('')).not.toContain(secret);
  });

  test('ImageFsInfo has what the kubelet reads through', async () => {
    const usage = (bytes: string, inodes: string): object => ({
      timestamp: '1700000000000000000',
      fs_id: { mountpoint: '/var/lib/kelyfos' },
      used_bytes: { value: bytes },
      inodes_used: { value: inodes },
    });
    expect(await client.untyped('ImageFsInfo', {})).toEqual({
      image_filesystems: [usage('12345', '67')],
      container_filesystems: [usage('89', '1')],
    });
  });
});

describe('every call', () => {
  test.each([
    ['invalid', status.INVALID_ARGUMENT],
    ['not-found', status.NOT_FOUND],
    ['already-exists', status.ALREADY_EXISTS],
    ['failed-precondition', status.FAILED_PRECONDITION],
    ['exhausted', status.RESOURCE_EXHAUSTED],
    ['unavailable', status.UNAVAILABLE],
    ['deadline', status.DEADLINE_EXCEEDED],
    ['cancelled', status.CANCELLED],
    ['unimplemented', status.UNIMPLEMENTED],
    ['internal', status.INTERNAL],
  ] as const)('maps %s errors and keeps their message', async (kind, code) => {
    domain.failures.set('run', new AppError(kind, 'RegistryUnavailable: why'));
    await expect(sandbox()).rejects.toMatchObject({ code, details: 'RegistryUnavailable: why' });
  });

  test.each([
    ['an errno', Object.assign(new Error('boom'), { code: 5 })],
    ['a string', 'boom'],
  ])('maps a foreign error, %s, to INTERNAL', async (_what, error) => {
    domain.failures.set('run', error);
    await expect(sandbox()).rejects.toMatchObject({ code: status.INTERNAL, details: 'boom' });
  });

  test('a long message is cut to what a header can hold', async () => {
    domain.failures.set('run', new AppError('internal', `serial: ${'x\u00e9'.repeat(50_000)}`));
    await expect(sandbox()).rejects.toMatchObject({
      code: status.INTERNAL,
      details: expect.stringMatching(/^serial: .*\.\.\.$/),
    });
  });

  test('a client that cancels aborts the work', async () => {
    domain.hanging.add('run');
    const config = { metadata: { ...linux, name: 'slow' } };
    const call = client.untyped('RunPodSandbox', { config }, { signal: AbortSignal.timeout(50) });
    await expect(call).rejects.toMatchObject({ code: status.CANCELLED });
    await settled(() => domain.calls.includes('aborted run'));
    await settled(() => logged.some((line) => line.includes('run: cancelled')));
  });

  test('a deadline aborts the work as a time-out', async () => {
    domain.hanging.add('pull');
    await expect(client.untyped('PullImage', { image: { image: 'x' } }, { timeoutMs: 300 })).rejects.toMatchObject({
      code: status.DEADLINE_EXCEEDED,
    });
    await settled(() => logged.some((line) => line.includes('pull: timed out')));
  });

  test('is logged with its name, ids and duration; frequent ones at debug', async () => {
    const id = await sandbox();
    await client.untyped('PodSandboxStatus', { pod_sandbox_id: id });
    const lines = logged.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toMatchObject([
      { level: 30, rpc: 'RunPodSandbox', sandboxId: id, ms: expect.any(Number) },
      { level: 20, rpc: 'PodSandboxStatus', sandboxId: id },
    ]);
  });

  test('limits are updated, and shown', async () => {
    const pod = await sandbox();
    const id = await container(pod);
    await client.untyped('UpdateContainerResources', { container_id: id.slice(0, 12), linux: null });
    const linux = { memory_limit_in_bytes: '64', cpu_quota: '50000', cpu_period: '100000' };
    await client.untyped('UpdateContainerResources', { container_id: id.slice(0, 12), linux });
    const { status: shown } = await client.untyped('ContainerStatus', { container_id: id });
    expect(shown).toMatchObject({ resources: { linux } });
    const request = { resources: { memory_limit_in_bytes: '7' }, overhead: { memory_limit_in_bytes: '5' } };
    await client.untyped('UpdatePodSandboxResources', { pod_sandbox_id: pod.slice(0, 12), ...request });
    expect(domain.calls).toEqual([`update ${id} 64`, `updateSandbox ${pod} 7+5`]);
  });

  test.each([
    ['UpdateContainerResources', { container_id: 'f00' }, status.NOT_FOUND, 'no container "f00"'],
    ['UpdateContainerResources', {}, status.INVALID_ARGUMENT, 'container_id is empty'],
    ['UpdatePodSandboxResources', { pod_sandbox_id: 'f00' }, status.NOT_FOUND, 'no pod sandbox "f00"'],
  ])('%s %j is refused', async (rpc, request, code, details) => {
    await expect(client.untyped(rpc, request)).rejects.toMatchObject({ code, details });
  });

  test.each([
    ['CheckpointContainer', {}],
    ['CheckpointPod', {}],
    ['RestorePod', {}],
  ])('%s of later versions is UNIMPLEMENTED by name', async (rpc, request) => {
    await expect(client.untyped(rpc, request)).rejects.toMatchObject({
      code: status.UNIMPLEMENTED,
      details: `${rpc} is not implemented in kelyfos 0.1.0`,
    });
  });

  test('messages of over 4 MiB go both ways', async () => {
    const annotations = Object.fromEntries(
      Array.from({ length: 24 }, (_, i) => [`a${String(i)}`, 'x'.repeat(250_000)]),
    );
    const id = await sandbox('big', { annotations });
    const found = await client.untyped('ListPodSandbox', { filter: { id } });
    expect(found['items']).toMatchObject([{ annotations }]);
  });
});

describe('statistics', () => {
  test('of one container: whole, by a prefix of its id, NOT_FOUND for others', async () => {
    const id = await container(await sandbox());
    const { stats } = await client.untyped('ContainerStats', { container_id: id.slice(0, 13) });
    expect(stats).toMatchObject({
      attributes: { id, metadata: { name: 'app' } },
      cpu: {
        usage_core_nano_seconds: { value: '3000000000' },
        usage_nano_cores: { value: '5' },
        psi: { Some: { Total: '42', Avg10: 1.5 } },
      },
      memory: { usage_bytes: { value: '100' }, available_bytes: { value: '20' }, psi: null },
      writable_layer: {
        timestamp: '17',
        fs_id: { mountpoint: '/var/lib/kelyfos/images' },
        used_bytes: { value: '4096' },
      },
      swap: { swap_usage_bytes: { value: '0' } },
    });
    await expect(client.untyped('ContainerStats', { container_id: 'f00' })).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
  });

  test('lists are filtered, and leave out guests that do not answer', async () => {
    const [a, b] = [await sandbox('a', { labels: { app: 'a' } }), await sandbox('b')];
    const ids = [await container(a, 'one', { labels: { tier: 'x' } }), await container(a, 'two'), await container(b)];
    const list = async (filter: object | null): Promise<string[]> => {
      const { stats } = await client.untyped('ListContainerStats', { filter });
      return (stats as { attributes: { id: string } }[]).map(({ attributes }) => attributes.id);
    };
    expect(await list(null)).toEqual(ids);
    expect(await list({ pod_sandbox_id: b })).toEqual([ids[2]]);
    expect(await list({ label_selector: { tier: 'x' } })).toEqual([ids[0]]);
    expect(await list({ id: 'f00' })).toEqual([]);
    const streamed = await Array.fromAsync(client.stream('StreamContainerStats', {}));
    expect(streamed.flatMap((batch) => batch.container_stats)).toHaveLength(3);
    domain.hung.add(a);
    expect(await list(null)).toEqual([ids[2]]);
    await expect(client.untyped('ContainerStats', { container_id: ids[0] })).rejects.toMatchObject({
      code: status.UNAVAILABLE,
    });
  });

  test('of pods: the host knows them also when the guest hangs', async () => {
    const [a, b] = [await sandbox('a'), await sandbox('b')];
    const id = await container(a);
    await client.untyped('StartContainer', { container_id: id });
    domain.hung.add(b);
    const { stats } = await client.untyped('ListPodSandboxStats', {});
    expect(stats).toMatchObject([
      {
        attributes: { id: a },
        linux: {
          cpu: { usage_core_nano_seconds: { value: '9000' } },
          network: { default_interface: { name: 'eth0', rx_bytes: { value: '1' } }, interfaces: [{ name: 'net1' }] },
          process: { process_count: { value: '2' } },
          containers: [{ attributes: { id } }],
        },
      },
      { attributes: { id: b }, linux: { process: null, containers: [] } },
    ]);
    await client.untyped('StopPodSandbox', { pod_sandbox_id: b });
    await expect(client.untyped('PodSandboxStats', { pod_sandbox_id: b })).rejects.toMatchObject({
      code: status.UNAVAILABLE,
    });
    const streamed = await Array.fromAsync(client.stream('StreamPodSandboxStats', { filter: { id: a } }));
    expect(streamed).toMatchObject([{ pod_sandbox_stats: [{ attributes: { id: a } }] }]);
  });
});

describe('metrics', () => {
  test('of ready pods, also when a guest hangs, and the same as a stream', async () => {
    const [a, b, c] = [await sandbox('a'), await sandbox('b'), await sandbox('c')];
    const id = await container(a);
    await client.untyped('StartContainer', { container_id: id });
    domain.hung.add(b);
    await client.untyped('StopPodSandbox', { pod_sandbox_id: c });
    const { pod_metrics: pods } = await client.untyped('ListPodSandboxMetrics', {});
    const expected = [
      { pod_sandbox_id: a, container_metrics: [{ container_id: id }] },
      { pod_sandbox_id: b, container_metrics: [] },
    ];
    expect(pods).toMatchObject(expected);
    const streamed = await Array.fromAsync(client.stream('StreamPodSandboxMetrics', {}));
    expect(streamed).toMatchObject([{ pod_sandbox_metrics: expected }]);
  });

  test('descriptors', async () => {
    const { descriptors } = await client.untyped('ListMetricDescriptors', {});
    expect(descriptors).toContainEqual({
      name: 'container_network_receive_bytes_total',
      help: 'Cumulative count of bytes received.',
      label_keys: ['id', 'name', 'image', 'container', 'pod', 'namespace', 'interface'],
    });
  });
});

describe('events', () => {
  const happen = (type: 'created' | 'stopped', id: string): void => {
    const { sandboxes, containers, events } = domain;
    const found = sandboxes.get(id);
    events.publish({ type, id: found.id, at: 7n, sandbox: found, containers: containers.list() });
  };

  test('say what happened and how the pod is now; a reader that leaves is forgotten', async () => {
    const id = await sandbox();
    const app = await container(id);
    const leave = new AbortController();
    const stream = client.stream('GetContainerEvents', {}, { signal: leave.signal });
    const first = stream.next();
    while (domain.events.subscribers === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    happen('stopped', id);
    expect((await first).value).toMatchObject({
      container_id: id,
      container_event_type: 'CONTAINER_STOPPED_EVENT',
      created_at: '7',
      pod_sandbox_status: { id, metadata: { uid: 'u' }, state: 'SANDBOX_READY', network: { ip: '10.1.0.2' } },
      containers_statuses: [{ id: app, state: 'CONTAINER_CREATED' }],
    });
    leave.abort();
    await expect(stream.next()).rejects.toMatchObject({ code: status.CANCELLED });
    while (domain.events.subscribers > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  });

  test('a reader that does not read is cut off, others are not', async () => {
    const id = await sandbox('big', { annotations: { a: 'x'.repeat(200_000) } });
    const [slow, quick] = [client.stream('GetContainerEvents', {}), client.stream('GetContainerEvents', {})];
    const [firstOfSlow, firstOfQuick] = [slow.next(), quick.next()];
    while (domain.events.subscribers < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    happen('created', id);
    await Promise.all([firstOfSlow, firstOfQuick]);
    for (let round = 0; round < 60; round += 1) {
      happen('stopped', id);
      expect((await quick.next()).value).toMatchObject({ container_event_type: 'CONTAINER_STOPPED_EVENT' });
    }
    const rest = async (): Promise<void> => {
      for await (const event of slow) expect(event).toMatchObject({ container_id: id });
    };
    await expect(rest()).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
    await quick.return();
  }, 30_000);
});

describe('the socket', () => {
  test('is for root alone', async () => {
    expect((await stat(socket)).mode & 0o777).toBe(0o600);
  });

  test('is refused while another daemon answers', async () => {
    await expect(serveCri(socket, services(), silentLog())).rejects.toThrow(`another daemon serves ${socket}`);
    await expect(client.untyped('Version', {})).resolves.toBeDefined();
  });

  test('replaces a stale one', async () => {
    const path = join(folder, 'stale.sock');
    // A listener that is gone without having removed its socket.
    const dead = createServer();
    await new Promise<void>((resolve) => dead.listen(`${path}.dead`, resolve));
    await link(`${path}.dead`, path);
    await new Promise((resolve) => dead.close(resolve));
    expect((await stat(path)).isSocket()).toBe(true);
    const again = await serveCri(path, services(), silentLog());
    const other = new CriClient(path);
    await expect(other.untyped('Version', {})).resolves.toBeDefined();
    other.close();
    await again.close(100);
    await expect(stat(path)).rejects.toThrow('ENOENT');
  });

  test('never replaces anything that is not a socket', async () => {
    const path = join(folder, 'file');
    await writeFile(path, 'precious');
    await expect(serveCri(path, services(), silentLog())).rejects.toThrow('is not a socket');
  });

  test('close ends calls that hang', async () => {
    domain.hanging.add('pull');
    const pull = expect(client.untyped('PullImage', { image: { image: 'x' } })).rejects.toBeDefined();
    await settled(() => domain.auths.length > 0);
    await server.close(50);
    await pull;
    await settled(() => domain.calls.includes('aborted pull'));
  });
});

/** Waits for something that another task is about to do. */
async function settled(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(condition()).toBe(true);
}
