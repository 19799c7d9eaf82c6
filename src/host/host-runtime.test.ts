import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { CreateContainerRequest, PodSandboxConfig } from '../cri/gen/cri-types.ts';
import { ForeignError } from '../platform/errors.ts';
import { silentLog } from '../platform/log.ts';
import { HostRuntime } from './host-runtime.ts';
import { FakeCri, FakeServiceError } from './testing/fake-cri.ts';

const limits = { listMs: 30, readMs: 40, connectMs: 20, probeMs: 10 };
const { signal } = new AbortController();
const config = { labels: { app: 'x', 'runtime.kelyfos.io/id': 'forged' } } as unknown as PodSandboxConfig;
const container = { config: { labels: {} } } as unknown as CreateContainerRequest;

let folder: string;
let cri: FakeCri;
let host: HostRuntime;

async function open(owner = '/var/lib/kelyfos', calls: FakeCri = cri): Promise<HostRuntime> {
  return HostRuntime.open({
    calls,
    endpoint: 'unix:///other.sock',
    owner,
    file: join(folder, 'host-pods.json'),
    handler: 'fallback',
    handlers: new Map([['host', 'runc']]),
    images: { imageId: (reference) => (reference === 'name@sha256:1' ? 'sha256:2' : undefined) },
    log: silentLog(),
    limits,
  });
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-host-'));
  cri = new FakeCri();
  host = await open();
});

afterEach(async () => {
  await host.close();
  await rm(folder, { recursive: true });
});

const handlerOf = (): unknown => {
  const run = cri.calls.findLast(({ name }) => name === 'RunPodSandbox');
  return (run?.request as { readonly runtime_handler: string } | undefined)?.runtime_handler;
};

test('pods are marked there, and shown without a mark; those of others are not', async () => {
  const id = await host.run(config, 'host', undefined, signal);
  expect(handlerOf()).toBe('runc');
  await host.run(config, '', undefined, signal);
  expect(handlerOf()).toBe('fallback');
  const other = await open('/another/root');
  await other.run(config, '', undefined, signal);

  const pods = await host.sandboxes();
  expect(pods).toHaveLength(2);
  expect(pods[0]).toEqual({ id, labels: { app: 'x' }, state: 'SANDBOX_READY' });
  expect(await host.findSandbox(cri.sandboxes[2]?.id ?? '')).toBeUndefined();
});

test('a pod that has moved is known by its old id, and so is the pod of its containers', async () => {
  const old = 'a'.repeat(64);
  expect(await host.run(config, '', old, signal)).toBe(old);
  const pod = await host.findSandbox('aaaa');
  expect(pod).toEqual({ id: old, hostId: cri.sandboxes[0]?.id });
  if (pod === undefined) throw new Error('not found');
  await host.create(pod, container, signal);
  expect(cri.containers).toMatchObject([{ pod_sandbox_id: pod.hostId }]);
  expect(await host.containers()).toMatchObject([{ pod_sandbox_id: old, labels: {} }]);
});

test('marks go from every depth of an answer, texts of JSON too; image ids are filled in', async () => {
  const labels = { 'runtime.kelyfos.io/owner': '/x', 'runtime.kelyfos.io/handler': 'host', a: 'b' };
  cri.answers.set('ContainerStatus', {
    status: { id: '1', labels, image_ref: 'name@sha256:1', image_id: '' },
    info: { info: JSON.stringify({ config: { labels } }), text: 'runtime.kelyfos.io/ in words' },
    bytes: Buffer.from('x'),
  });
  expect(await host.call('ContainerStatus', { container_id: '1' }, signal)).toEqual({
    status: { id: '1', labels: { a: 'b' }, image_ref: 'name@sha256:1', image_id: 'sha256:2' },
    info: { info: '{"config":{"labels":{"a":"b"}}}', text: 'runtime.kelyfos.io/ in words' },
    bytes: Buffer.from('x'),
  });
});

test('errors come with code and words', async () => {
  cri.answers.set('StartContainer', new FakeServiceError(2, 'it is so'));
  const error: unknown = await host.call('StartContainer', { container_id: 'x' }, signal).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(ForeignError);
  expect(error).toMatchObject({ code: 2, message: 'it is so' });
});

test.each(['down', 'hung'] as const)(
  'while it is %s its pods stay listed as they were, also by the next daemon',
  async (mode) => {
    const id = await host.run(config, '', undefined, signal);
    cri.mode = mode;
    expect((await host.sandboxes()).map((pod) => pod.id)).toEqual([id]);
    expect(await host.state()).toMatchObject({ up: false });
    expect(await host.findSandbox(id)).toMatchObject({ id });
    // Known to be down: not asked once more for a list.
    const asked = cri.calls.filter(({ name }) => name === 'ListPodSandbox').length;
    await host.sandboxes();
    expect(cri.calls.filter(({ name }) => name === 'ListPodSandbox')).toHaveLength(asked);
    // Whether there is such a pod cannot be told.
    await expect(host.findSandbox('b'.repeat(64))).rejects.toMatchObject({ kind: 'unavailable' });
    await expect(host.call('PodSandboxStatus', { pod_sandbox_id: id }, signal)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('unix:///other.sock'),
    });

    const dead = new FakeCri();
    dead.mode = 'down';
    const next = await open(undefined, dead);
    expect((await next.sandboxes()).map((pod) => pod.id)).toEqual([id]);
    await next.close();

    cri.mode = 'up';
    while (!(await host.state()).up) await new Promise(setImmediate);
    cri.sandboxes.length = 0;
    expect(await host.sandboxes()).toEqual([]);
  },
);

test('what changes nothing when done twice is tried again, and nothing else', async () => {
  let left = 1;
  const broken = new FakeServiceError(14, 'connection dropped');
  cri.answers.set('RunPodSandbox', broken);
  await expect(host.run(config, '', undefined, signal)).rejects.toMatchObject({ message: 'connection dropped' });
  expect(cri.calls.filter(({ name }) => name === 'RunPodSandbox')).toHaveLength(1);
  Object.defineProperty(cri.answers, 'get', {
    value: (name: string) => (name === 'StopPodSandbox' && left-- > 0 ? broken : undefined),
  });
  await host.call('StopPodSandbox', { pod_sandbox_id: 'x' }, signal);
  expect(cri.calls.filter(({ name }) => name === 'StopPodSandbox')).toHaveLength(2);
});

test('the pod network is told again when it comes back', async () => {
  const told = (): number => cri.calls.filter(({ name }) => name === 'UpdateRuntimeConfig').length;
  cri.mode = 'down';
  await expect(host.configure({ runtime_config: null })).rejects.toMatchObject({ kind: 'unavailable' });
  const before = told();
  cri.mode = 'up';
  while (told() === before) await new Promise(setImmediate);
});

test('a list on disk that cannot be read is no list', async () => {
  await writeFile(join(folder, 'host-pods.json'), '{"version":1');
  cri.mode = 'down';
  const next = await open();
  expect(await next.sandboxes()).toEqual([]);
  await next.close();
});
