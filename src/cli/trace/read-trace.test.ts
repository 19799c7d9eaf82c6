import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { status } from '@grpc/grpc-js';
import { CriClient } from '../../cri/client.ts';
import { FakeDomain } from '../../cri/fake-domain.ts';
import { type CriServer, serveCri } from '../../cri/server.ts';
import { silentLog } from '../../platform/log.ts';
import { readTrace } from './read-trace.ts';

let folder: string;
let domain: FakeDomain;
let server: CriServer;
let client: CriClient;
const forever = new AbortController().signal;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-trace-'));
  domain = new FakeDomain();
  const { sandboxes, containers, resources, stats, events, images, archives, networks, streaming } = domain;
  const runtime = {
    ...{ version: '0.1.0', handlers: ['kelyfos'], defaultHandler: 'kelyfos', cgroupDriver: 'cgroupfs' as const },
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

async function pod(name: string, attempt = 0): Promise<string> {
  const config = { metadata: { name, uid: 'u', namespace: 'shop', attempt }, linux: {} };
  return (await client.call('RunPodSandbox', { config })).pod_sandbox_id;
}

test('a pod is found by the begin of its id, and comes with its containers', async () => {
  domain.addImage({ id: 'sha256:1', repoTags: ['app:1'] });
  const id = await pod('web');
  await client.call('CreateContainer', {
    pod_sandbox_id: id,
    config: { metadata: { name: 'app', attempt: 2 }, image: { image: 'app:1' } },
    sandbox_config: {},
  });
  expect(await readTrace(client, id.slice(0, 40), forever)).toMatchObject({
    id,
    name: 'web',
    namespace: 'shop',
    origin: 'pool',
    requests: [
      { request: 'RunPodSandbox', startedAt: 1_700_000_000_000_000_000n, steps: [{ name: 'claim', startMs: 0.5 }] },
      { request: 'CreateContainer', container: { name: 'app', attempt: 2 } },
    ],
  });
});

test('of several pods of one name the one that runs is meant', async () => {
  const first = await pod('web');
  await client.call('StopPodSandbox', { pod_sandbox_id: first });
  const second = await pod('web', 1);
  expect((await readTrace(client, 'shop/web', forever)).id).toBe(second);
  await client.call('RemovePodSandbox', { pod_sandbox_id: second });
  expect((await readTrace(client, 'shop/web', forever)).id).toBe(first);
});

test('what cannot be found is told', async () => {
  await pod('web');
  await expect(readTrace(client, 'other/web', forever)).rejects.toThrow('no pod "web" in namespace "other"');
  await expect(readTrace(client, 'a/b/c', forever)).rejects.toThrow('accepted: the begin of an id, or namespace/name');
  await expect(readTrace(client, 'nope', forever)).rejects.toMatchObject({ code: status.NOT_FOUND });
});
