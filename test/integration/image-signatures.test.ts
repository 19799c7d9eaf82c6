import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { RegistryImages } from '../../src/image/images.ts';
import { silentLog } from '../../src/platform/log.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { mkfsErofs } from '../harness/mkfs-erofs.ts';
import { unpacker } from '../harness/unpacker.ts';
import { writeOciLayout } from '../harness/oci-layout.ts';
import { TestRegistry } from '../harness/registry.ts';
import { writeTar } from '../harness/tar-stream.ts';

/** Simple signing: signatures by GPG in a folder, images in a registry, and a policy that asks for them. */
let base: string;
let registry: TestRegistry;
let gnupg: string;
let images: RegistryImages;

const signer = 'signer@example.test';
const stranger = 'stranger@example.test';
const forever = (): AbortSignal => AbortSignal.timeout(60_000);

beforeAll(async () => {
  base = await freeFolder('signatures');
  registry = await TestRegistry.start();
  // Short: GPG makes sockets in it.
  gnupg = join(base, 'g');
  await mkdir(gnupg, { mode: 0o700 });
  for (const user of [signer, stranger]) {
    await gpg('--batch', '--passphrase', '', '--quick-generate-key', user, 'ed25519', 'sign', 'never');
  }
  await writeFile(join(base, 'signer.gpg'), (await gpg('--export', signer)).stdout);
  const signatures = `file://${join(base, 'signatures')}`;
  await mkdir(join(base, 'registries.d'));
  // JSON is YAML.
  const places = { docker: { [registry.host]: { sigstore: signatures, 'sigstore-staging': signatures } } };
  await writeFile(join(base, 'registries.d/test.yaml'), JSON.stringify(places));
  const elsewhere = `[[registry]]\nlocation = "${elsewhereOf(registry.host)}"\ninsecure = true\n`;
  await writeFile(join(base, 'registries.conf'), registry.registriesConf + elsewhere);
  const demand = [{ type: 'signedBy', keyType: 'GPGKeys', keyPath: join(base, 'signer.gpg') }];
  const policy = { default: [{ type: 'reject' }], transports: { docker: { [registry.host]: demand } } };
  await writeFile(join(base, 'policy.json'), JSON.stringify(policy));
  images = await RegistryImages.open({
    ...{ folder: join(base, 'store/images'), disksFolder: join(base, 'store/vms'), pinned: [] },
    ...{ registriesConf: join(base, 'registries.conf'), registriesD: join(base, 'registries.d') },
    ...{ policy: join(base, 'policy.json'), skopeo: 'skopeo', mkfsErofs, unpacker, maxUnpackedBytes: 2 ** 28 },
    ...{ stallMs: 20_000, secretsDir: '/dev/shm', log: silentLog() },
  });
});

afterAll(async () => {
  await execa('gpgconf', ['--homedir', gnupg, '--kill', 'all']);
  await registry.close();
  await removeFolder(base);
});

/** The same registry by another name. */
function elsewhereOf(host: string): string {
  return host.replace('127.0.0.1', 'localhost');
}

async function gpg(...args: readonly string[]) {
  return execa('gpg', ['--homedir', gnupg, ...args], { encoding: 'buffer', timeout: 60_000 });
}

/** Pushes an image; its reference. */
async function push(name: string, signedBy?: string): Promise<string> {
  const layout = await mkdtemp(join(base, 'layout-'));
  await writeOciLayout(layout, [writeTar([{ name: 'file', type: 'file', data: name }])], { Cmd: ['/file'] });
  const reference = `${registry.host}/${name}`;
  const sign = signedBy === undefined ? [] : ['--sign-by', signedBy];
  await execa(
    'skopeo',
    [
      ...['--insecure-policy', '--registries.d', join(base, 'registries.d'), 'copy', '--quiet'],
      ...['--dest-tls-verify=false', ...sign, `oci:${layout}`, `docker://${reference}`],
    ],
    { env: { GNUPGHOME: gnupg }, timeout: 60_000 },
  );
  return reference;
}

const rejected = { kind: 'failed-precondition', message: expect.stringMatching(/^SignatureValidationFailed: /) };

test('a signed image is pulled, by tag and then by digest', async () => {
  const reference = await push('signed:1', signer);
  const id = await images.pull(reference, undefined, forever());
  const [digest = ''] = images.find(id)?.repoDigests ?? [];
  expect(await images.pull(digest, undefined, forever())).toBe(id);
});

test.each([
  ['without a signature', undefined],
  ['signed by a stranger', stranger],
])('one %s is not', async (what, by) => {
  const reference = await push(`${what.replaceAll(' ', '-')}:1`, by);
  const before = images.list().length;
  await expect(images.pull(reference, undefined, forever())).rejects.toMatchObject(rejected);
  expect(images.list()).toHaveLength(before);
});

test('a signature is for one name: the image under another is not signed', async () => {
  const reference = await push('named:1', signer);
  await images.pull(reference, undefined, forever());
  const other = `${registry.host}/other:1`;
  const plain = ['--insecure-policy', 'copy', '--quiet', '--src-tls-verify=false', '--dest-tls-verify=false'];
  await execa('skopeo', [...plain, `docker://${reference}`, `docker://${other}`], { timeout: 60_000 });
  await expect(images.pull(other, undefined, forever())).rejects.toMatchObject(rejected);
});

test('other registries are rejected as the default says', async () => {
  await push('signed:2', signer);
  const reference = `${elsewhereOf(registry.host)}/signed:2`;
  await expect(images.pull(reference, undefined, forever())).rejects.toMatchObject(rejected);
});
