import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { status } from '@grpc/grpc-js';
import { silentLog } from '../../platform/log.ts';
import { FakeDomain } from '../fake-domain.ts';
import { type CriServer, serveCri } from '../server.ts';
import { ArchiveClient } from './client.ts';

let folder: string;
let domain: FakeDomain;
let server: CriServer;
let client: ArchiveClient;
const forever = new AbortController().signal;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-archives-'));
  domain = new FakeDomain();
  const { sandboxes, containers, resources, stats, events, images, archives, networks, streaming } = domain;
  const runtime = {
    ...{ version: '0.1.0', handlers: ['kelyfos'], defaultHandler: 'kelyfos', cgroupDriver: 'cgroupfs' as const },
    mapsOwners: false,
    details: async () => ({}),
  };
  server = await serveCri(
    join(folder, 'cri.sock'),
    { sandboxes, containers, resources, stats, events, images, archives, networks, streaming, runtime },
    silentLog(),
  );
  client = new ArchiveClient(join(folder, 'cri.sock'));
});

afterEach(async () => {
  client[Symbol.dispose]();
  await server.close(100);
  await rm(folder, { recursive: true });
});

async function* pieces(text: string, count: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i += 1) yield Buffer.from(text);
}

test('an archive comes in pieces, and its images are told', async () => {
  const big = pieces('x'.repeat(64 * 1024), 500);
  expect(await client.import(big, { name: 'a.tar' }, forever)).toEqual([
    { id: `sha256:${'e'.repeat(64)}`, tags: ['from/archive:1'] },
  ]);
  expect(await client.import(pieces('y', 1), { name: 'b.tar', tag: 'mine:1' }, forever)).toMatchObject([
    { tags: ['mine:1'] },
  ]);
  expect(domain.imported).toEqual([`a.tar - ${'x'.repeat(20)} ${String(500 * 64 * 1024)}`, 'b.tar mine:1 y 1']);
});

test('the daemon says why it cannot, and a source that fails is told as it is', async () => {
  await expect(client.import(pieces('bad', 1), { name: 'b.tar' }, forever)).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: 'b.tar is no archive',
  });
  async function* torn(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('x');
    throw new Error('the disk is gone');
  }
  await expect(client.import(torn(), { name: 'c.tar' }, forever)).rejects.toThrow('the disk is gone');
});

test('an import is cancelled, there too', async () => {
  domain.hanging.add('import');
  const cancel = new AbortController();
  const importing = client.import(pieces('x', 1), { name: 'a.tar' }, cancel.signal);
  while (domain.imported.length === 0) await new Promise(setImmediate);
  cancel.abort();
  await expect(importing).rejects.toMatchObject({ code: status.CANCELLED });
  while (!domain.calls.includes('aborted import')) await new Promise(setImmediate);
});

test('an archive goes out in pieces; what cannot be had is an error', async () => {
  domain.addImage({ id: 'sha256:1', repoTags: ['app:1'] });
  const read = async (image: string, format: string): Promise<string> =>
    Buffer.concat(await Array.fromAsync(client.export({ image, format }, forever))).toString();
  expect(await read('app:1', 'docker')).toBe('docker of app:1');
  await expect(read('app:2', 'oci')).rejects.toMatchObject({ code: status.NOT_FOUND });
  await expect(read('app:1', 'zip')).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: 'format of an archive: found "zip", accepted: oci, docker',
  });
  await expect(read('', 'oci')).rejects.toMatchObject({ details: 'image is empty' });
});
