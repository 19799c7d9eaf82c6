import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { status } from '@grpc/grpc-js';
import { silentLog } from '../platform/log.ts';
import { CriClient } from './client.ts';
import { FakeDomain } from './fake-domain.ts';
import { type CriServer, serveCri } from './server.ts';

let folder: string;
let domain: FakeDomain;
let server: CriServer;
let client: CriClient;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-streams-'));
  domain = new FakeDomain();
  const { sandboxes, containers, resources, stats, events, images, archives, networks, streaming } = domain;
  const runtime = {
    version: '0.1.0',
    handlers: ['kelyfos'],
    defaultHandler: 'kelyfos',
    cgroupDriver: 'cgroupfs' as const,
    mapsOwners: false,
    details: async () => ({}),
  };
  const socket = join(folder, 'cri.sock');
  server = await serveCri(
    socket,
    { sandboxes, containers, resources, stats, events, images, archives, networks, streaming, runtime },
    silentLog(),
  );
  client = new CriClient(socket);
});

afterEach(async () => {
  client.close();
  await server.close(100);
  await rm(folder, { recursive: true });
});

async function sandbox(): Promise<string> {
  const metadata = { name: 'web', uid: 'u', namespace: 'ns', attempt: 0 };
  return (await client.call('RunPodSandbox', { config: { metadata } })).pod_sandbox_id;
}

async function container(config: object = {}, started = true): Promise<string> {
  domain.addImage({ id: 'sha256:1' });
  const { container_id: id } = await client.call('CreateContainer', {
    pod_sandbox_id: await sandbox(),
    config: { metadata: { name: 'app', attempt: 0 }, image: { image: 'sha256:1' }, ...config },
  });
  if (started) await client.call('StartContainer', { container_id: id });
  return id;
}

test('Exec hands what was asked for to the streaming server, and answers with its URL', async () => {
  const id = await container();
  const request = { container_id: id.slice(0, 13), cmd: ['sh', '-c', ''], stdin: true, stdout: true, tty: true };
  expect(await client.call('Exec', request)).toEqual({ url: 'http://127.0.0.1:1/exec/token' });
  const streams = { stdin: true, stdout: true, stderr: false, tty: true };
  expect(domain.streamRequests).toEqual([{ kind: 'exec', containerId: id, argv: ['sh', '-c', ''], streams }]);
});

test.each([
  ['no container', { container_id: '', cmd: ['sh'], stdout: true }, 'container_id is empty'],
  ['a terminal with stderr', { cmd: ['sh'], stdout: true, stderr: true, tty: true }, 'stderr is set with tty'],
  ['no stream', { cmd: ['sh'] }, 'stdin, stdout, stderr are all unset'],
  ['no command', { stdout: true }, 'cmd is empty'],
  ['an empty command', { cmd: [''], stdout: true }, 'cmd[0] is empty'],
])('Exec refuses %s', async (_, request, details) => {
  const id = await container();
  await expect(client.call('Exec', { container_id: id, ...request })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining(details) as unknown as string,
  });
});

test('Exec and Attach need a container that runs', async () => {
  const request = { container_id: await container({}, false), cmd: ['sh'], stdout: true };
  for (const rpc of ['Exec', 'Attach'] as const) {
    await expect(client.call(rpc, request)).rejects.toMatchObject({ code: status.FAILED_PRECONDITION });
    await expect(client.call(rpc, { ...request, container_id: 'f'.repeat(64) })).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
  }
});

test('Attach takes a terminal where there is one, and only there', async () => {
  const id = await container({ tty: true });
  await expect(client.call('Attach', { container_id: id, stdout: true })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: `tty is false, but container ${id} has a terminal`,
  });
  expect(await client.call('Attach', { container_id: id, stdout: true, tty: true })).toEqual({
    url: 'http://127.0.0.1:1/attach/token',
  });
});

test('PortForward needs a sandbox that is ready, and ports that exist', async () => {
  const id = await sandbox();
  expect(await client.call('PortForward', { pod_sandbox_id: id })).toEqual({
    url: 'http://127.0.0.1:1/portforward/token',
  });
  await expect(client.call('PortForward', { pod_sandbox_id: id, port: [80, 65_536] })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: 'port 65536 is not a port (1 to 65535)',
  });
  await client.call('StopPodSandbox', { pod_sandbox_id: id });
  await expect(client.call('PortForward', { pod_sandbox_id: id })).rejects.toMatchObject({
    code: status.FAILED_PRECONDITION,
  });
});
