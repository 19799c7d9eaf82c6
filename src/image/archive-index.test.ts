import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { readArchiveIndex, type ArchivedImage } from './archive-index.ts';
import { makeHeader, paddingOf } from './tar-header.ts';

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-archive-'));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

function tar(files: Readonly<Record<string, unknown>>): Buffer {
  const parts = Object.entries(files).flatMap(([name, content]) => {
    const bytes = typeof content === 'string' ? Buffer.from(content) : Buffer.from(JSON.stringify(content));
    return [makeHeader('0', name, bytes.length), bytes, Buffer.alloc(paddingOf(bytes.length))];
  });
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

async function read(archive: Buffer): Promise<readonly ArchivedImage[]> {
  const file = join(folder, 'archive');
  await writeFile(file, archive);
  return readArchiveIndex(file, 'a.tar');
}

const layer = 'x'.repeat(5000);
const digest = `sha256:${'1'.repeat(64)}`;
const oci = (...annotations: readonly (Readonly<Record<string, string>> | undefined)[]): Record<string, unknown> => ({
  'oci-layout': { imageLayoutVersion: '1.0.0' },
  'index.json': { schemaVersion: 2, manifests: annotations.map((it) => ({ digest, size: 1, annotations: it })) },
});

test.each([
  ['as it is', (bytes: Buffer) => bytes],
  ['with gzip', gzipSync],
  ['with zstd', zstdCompressSync],
])('docker: several images, several names, none; %s', async (_, compress) => {
  const images = [
    { Config: 'c.json', RepoTags: ['busybox:1', 'host:5000/busybox:2'], Layers: [] },
    { Config: 'd.json', RepoTags: null, Layers: [] },
  ];
  expect(await read(compress(tar({ 'layer.tar': layer, 'manifest.json': images })))).toEqual([
    {
      ...{ transport: 'docker-archive', selector: '@0' },
      tags: ['docker.io/library/busybox:1', 'host:5000/busybox:2'],
    },
    { transport: 'docker-archive', selector: '@1', tags: [] },
  ]);
});

test("an archive that is both is docker's", async () => {
  const both = { ...oci(undefined), 'manifest.json': [{ Config: 'c', RepoTags: ['app:1'], Layers: [] }] };
  expect(await read(tar(both))).toMatchObject([{ transport: 'docker-archive' }]);
});

test.each([
  [undefined, []],
  [{ 'org.opencontainers.image.ref.name': 'latest' }, []],
  [{ 'org.opencontainers.image.ref.name': 'no name: at all' }, []],
  [{ 'org.opencontainers.image.ref.name': 'app:1' }, ['docker.io/library/app:1']],
  [
    { 'org.opencontainers.image.ref.name': '1', 'io.containerd.image.name': 'registry/app:1' },
    ['docker.io/registry/app:1'],
  ],
])('OCI: %j is called %j', async (annotations, tags) => {
  expect(await read(tar({ blob: layer, ...oci(annotations) }))).toEqual([
    { transport: 'oci-archive', selector: '', tags },
  ]);
});

test('OCI: several images are told apart by their names', async () => {
  const name = (value: string): Record<string, string> => ({ 'org.opencontainers.image.ref.name': value });
  expect(await read(tar(oci(name('a:1'), name('two'))))).toEqual([
    { transport: 'oci-archive', selector: 'a:1', tags: ['docker.io/library/a:1'] },
    { transport: 'oci-archive', selector: 'two', tags: [] },
  ]);
  await expect(read(tar(oci(name('a:1'), undefined)))).rejects.toMatchObject({ kind: 'invalid' });
});

test.each([
  ['an empty file', Buffer.alloc(0), /^a.tar is no archive of images: neither/],
  ['no archive', Buffer.from('#!/bin/sh\n'.repeat(100)), /^a.tar is no archive of images: .*checksum/],
  ['another archive', tar({ 'etc/passwd': 'root' }), /^a.tar is no archive of images: neither manifest.json nor/],
  ['one that is cut off', tar({ layer }).subarray(0, 2000), /^a.tar is no archive of images: it is cut off/],
  ['a torn index', tar({ 'index.json': '{' }), /^index.json of a.tar is not JSON/],
  ['an empty index', tar({ 'manifest.json': [] }), /^manifest.json of a.tar is malformed/],
])('%s is refused', async (_, archive, message) => {
  await expect(read(archive)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringMatching(message) });
});
