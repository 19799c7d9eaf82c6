import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { acceptsEverything } from './signature-policy.ts';

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-policy-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

const any = [{ type: 'insecureAcceptAnything' }];
const never = [{ type: 'reject' }];

test.each([
  ['nothing but a default', { default: any }, true],
  ["Debian's", { default: any, transports: { 'docker-daemon': { '': any } } }, true],
  ['a default that rejects', { default: never }, false],
  ['a default without requirements', { default: [] }, false],
  ['one place that is rejected', { default: any, transports: { docker: { 'registry.example': never } } }, false],
  ['two requirements', { default: [...any, { type: 'signedBy', keyType: 'GPGKeys' }] }, false],
  ['a key that is not known', { default: any, more: {} }, false],
  ['no default', { transports: {} }, false],
])('%s', async (name, policy, expected) => {
  const file = join(folder, name.replaceAll(' ', '-'));
  await writeFile(file, JSON.stringify(policy));
  expect(await acceptsEverything(file)).toBe(expected);
});

test('what is no JSON, or not there, accepts nothing', async () => {
  const file = join(folder, 'broken');
  await writeFile(file, '{"default": [');
  expect(await acceptsEverything(file)).toBe(false);
  expect(await acceptsEverything(join(folder, 'missing'))).toBe(false);
});
