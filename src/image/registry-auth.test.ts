import { expect, test } from '@jest/globals';
import { parseReference, type NamedReference } from './reference.ts';
import { authFileContent, memoryFolder, openNamelessFile, secretsOf, type RegistryAuth } from './registry-auth.ts';

const none: RegistryAuth = {
  username: '',
  password: '',
  auth: '',
  serverAddress: '',
  identityToken: '',
  registryToken: '',
};
const reference = (text: string): NamedReference => parseReference(text) as NamedReference;
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const content = (name: string, auth: Partial<RegistryAuth> | undefined): unknown =>
  JSON.parse(authFileContent(reference(name), auth === undefined ? undefined : { ...none, ...auth }));

test.each([
  ['nothing', undefined, {}],
  ['nothing but empty strings', {}, {}],
  ['name and password', { username: 'u', password: 'p:q' }, { 'reg.example': { auth: base64('u:p:q') } }],
  ['both in one', { auth: base64('u:p') }, { 'reg.example': { auth: base64('u:p') } }],
  [
    'the right server',
    { username: 'u', password: 'p', serverAddress: 'https://reg.example/v1/' },
    { 'reg.example': { auth: base64('u:p') } },
  ],
  ['another server', { username: 'u', password: 'p', serverAddress: 'other.example' }, {}],
])('%s', (_, auth, auths) => {
  expect(content('reg.example/app', auth)).toEqual({ auths });
});

test('an identity token goes with a name that says nothing', () => {
  const { auths } = content('reg.example/app', { identityToken: 't' }) as { auths: Record<string, unknown> };
  expect(auths['reg.example']).toMatchObject({ identitytoken: 't' });
});

test("docker's hub has several names", () => {
  const auth = { username: 'u', password: 'p', serverAddress: 'https://index.docker.io/v1/' };
  expect(content('busybox', auth)).toEqual({ auths: { 'docker.io': { auth: base64('u:p') } } });
});

test('what cannot be used is refused without being repeated', () => {
  expect(() => content('a.b/c', { registryToken: 'sesame' })).toThrow(/^(?!.*sesame)/);
  expect(() => content('a.b/c', { registryToken: 'sesame' })).toThrow('identity token');
  expect(() => content('a.b/c', { auth: base64('no colon') })).toThrow('base64');
});

test('the secrets are listed in every form', () => {
  const auth = { ...none, username: 'u', password: 'p', identityToken: 'i', registryToken: 'r' };
  expect([...secretsOf(auth)].sort()).toEqual(['i', 'p', 'r', base64('u:p')].sort());
  expect(secretsOf(none)).toEqual([]);
  expect(secretsOf(undefined)).toEqual([]);
});

test('the file has no name', async () => {
  const { mkdtemp, readFile, readdir, rm } = await import('node:fs/promises');
  const { tmpdir } = await import('node:os');
  const folder = await mkdtemp(`${tmpdir()}/kelyfos-auth-`);
  const file = await openNamelessFile(folder, 'content');
  expect(await readdir(folder)).toEqual([]);
  expect((await file.stat()).mode & 0o777).toBe(0o600);
  expect(await readFile(`/proc/self/fd/${String(file.fd)}`, 'utf8')).toBe('content');
  await file.close();
  await rm(folder, { recursive: true });
});

test('a folder in memory is told from one on disk', async () => {
  expect(await memoryFolder(['/no/such/folder', '/usr', '/dev/shm', '/proc'])).toBe('/dev/shm');
  expect(await memoryFolder(['/usr'])).toBeUndefined();
});
