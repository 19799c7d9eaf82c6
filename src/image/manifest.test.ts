import { expect, test } from '@jest/globals';
import { choosePlatform, isUncompressed, parseManifest, type ManifestList } from './manifest.ts';

const digest = (digit: string): string => `sha256:${digit.repeat(64)}`;
const bytes = (json: unknown): Uint8Array => Buffer.from(JSON.stringify(json));
const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digest('a'), size: 10 };
const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: digest('b'), size: 20 };

test('an OCI manifest, with things we do not know in it', () => {
  const json = {
    schemaVersion: 2,
    config: { ...config, annotations: {} },
    layers: [layer],
    subject: null,
    annotations: { a: 'b' },
  };
  expect(parseManifest(bytes(json), 'x')).toEqual({ kind: 'image', docker: false, config, layers: [layer] });
});

test("docker's manifest is known by its media type", () => {
  const json = {
    schemaVersion: 2,
    mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    config,
    layers: [],
  };
  expect(parseManifest(bytes(json), 'x')).toMatchObject({ kind: 'image', docker: true });
});

const entry = (os: string, architecture: string, digit: string, variant?: string): object => ({
  ...{ mediaType: 'm', digest: digest(digit), size: 1 },
  platform: { os, architecture, ...(variant === undefined ? {} : { variant }) },
});

test('a list is chosen from by platform, the first that fits', () => {
  const manifests = [
    { mediaType: 'm', digest: digest('0'), size: 1 },
    entry('unknown', 'unknown', '1'),
    entry('linux', 'arm64', '2', 'v8'),
    entry('windows', 'amd64', '3'),
    entry('linux', 'amd64', '4'),
    entry('linux', 'amd64', '5', 'v3'),
  ];
  const list = parseManifest(bytes({ schemaVersion: 2, manifests }), 'x') as ManifestList;
  expect(choosePlatform(list, { os: 'linux', architecture: 'amd64' }, 'x').digest).toBe(digest('4'));
  expect(() => choosePlatform(list, { os: 'linux', architecture: 's390x' }, 'app')).toThrow(
    'app has no image for linux/s390x, only for linux/arm64, windows/amd64, linux/amd64, linux/amd64',
  );
});

test.each([
  ['no JSON', Buffer.from('<html>'), 'not JSON'],
  ['no UTF-8', Buffer.from([0xff, 0xfe]), 'not JSON'],
  ['null', bytes(null), 'malformed'],
  ['schema 1', bytes({ schemaVersion: 1, fsLayers: [] }), 'schema 1'],
  [
    'a digest that is a path',
    bytes({ schemaVersion: 2, config: { ...config, digest: '../x' }, layers: [] }),
    'malformed',
  ],
  ['a negative size', bytes({ schemaVersion: 2, config, layers: [{ ...layer, size: -1 }] }), 'malformed'],
  ['no layers', bytes({ schemaVersion: 2, config }), 'malformed'],
])('%s is refused', (_, content, message) => {
  expect(() => parseManifest(content, 'app')).toThrow(message);
});

test('plain tar layers are told by their media type', () => {
  expect(isUncompressed({ ...layer, mediaType: 'application/vnd.docker.image.rootfs.diff.tar' })).toBe(true);
  expect(isUncompressed(layer)).toBe(false);
});
