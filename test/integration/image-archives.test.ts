import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';
import type * as cri from '../../src/cri/gen/cri-types.ts';
import { buildBusyboxImage } from '../harness/busybox-image.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { kelyfos } from '../harness/kelyfos.ts';
import { TestNode } from '../harness/node.ts';
import { writeOciLayout } from '../harness/oci-layout.ts';
import { writeTar } from '../harness/tar-stream.ts';

/** Images in and out as archives: through the command line and a daemon, checked with skopeo. */
let node: TestNode;
let base: string;
let layout: string;
/** The image's id: the digest of its configuration. */
let id: string;

beforeAll(async () => {
  base = await freeFolder('archives');
  const made = await buildBusyboxImage(await mkdtemp(join(base, 'busybox-')));
  layout = made.folder;
  node = await TestNode.start({ config: { vm: { classes: { default: { pool: 0, template: false } } } } });
  id = (await imageStatus(node.image))?.id ?? '';
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
  await removeFolder(base);
});

async function imageStatus(image: string): Promise<cri.Image | null> {
  return (await node.daemon.cri.call('ImageStatus', { image: { image } })).image;
}

async function removeAll(): Promise<void> {
  const { images } = await node.daemon.cri.call('ListImages', {});
  for (const image of images) await node.daemon.cri.call('RemoveImage', { image: { image: image.id } });
}

const command = async (...args: readonly string[]) => kelyfos(node.daemon.socket, args);

async function archiveOf(target: string): Promise<string> {
  const folder = await mkdtemp(join(base, 'archive-'));
  const file = join(folder, 'image.tar');
  await execa('skopeo', ['--insecure-policy', 'copy', '--quiet', `oci:${layout}`, target.replace('FILE', file)]);
  return file;
}

interface Inspected {
  readonly id: string;
  readonly layers: readonly string[];
}

/** What skopeo finds in an archive. */
async function inspect(source: string): Promise<Inspected> {
  const { stdout } = await execa('skopeo', ['--insecure-policy', 'inspect', '--raw', source]);
  const manifest = JSON.parse(stdout) as { config: { digest: string }; layers: { digest: string }[] };
  return { id: manifest.config.digest, layers: manifest.layers.map(({ digest }) => digest) };
}

/** Nothing of an import or export is left under way. */
async function expectNothingStaged(): Promise<void> {
  expect(await readdir(join(node.daemon.root, 'images/staging'))).toEqual([]);
}

test.each([
  ['docker', 'docker-archive:FILE:example.test/archived:1'],
  ['OCI', 'oci-archive:FILE:example.test/archived:1'],
])('an archive of %s is imported, and its image runs', async (_, target) => {
  await removeAll();
  const { exitCode, text, stderr } = await command('image', 'import', await archiveOf(target));
  expect([exitCode, stderr, text]).toEqual([0, '', `${id} example.test/archived:1\n`]);
  expect(await imageStatus('example.test/archived:1')).toMatchObject({
    ...{ id, repo_tags: ['example.test/archived:1'], repo_digests: [] },
  });
  await expectNothingStaged();
  const pod = await node.runPod();
  const { output, status } = await node.runToEnd(pod, {
    command: ['cat', '/etc/group'],
    config: { image: { image: 'example.test/archived:1' } },
  });
  expect(output).toContain('extra:x:50000');
  expect([status.image_id, status.image_ref]).toEqual([id, id]);
  await node.removePod(pod);
});

test('compressed, by standard input, with another name', async () => {
  await removeAll();
  const file = await archiveOf('docker-archive:FILE');
  const args = ['image', 'import', '--tag', 'renamed:2', '-'];
  const { exitCode, text, stderr } = await kelyfos(node.daemon.socket, args, gzipSync(await readFile(file)));
  expect([exitCode, stderr, text]).toEqual([0, '', `${id} docker.io/library/renamed:2\n`]);
  const { text: table } = await command('image', 'list');
  expect(table.split('\n').slice(0, -1)).toEqual([
    expect.stringMatching(/^IMAGE +TAG +IMAGE ID +SIZE +PINNED$/),
    expect.stringMatching(new RegExp(`^docker.io/library/renamed +2 +${id.slice(7, 20)} +[\\d.]+[kM]B$`)),
  ]);
});

test.each(['docker', 'OCI'])('all images of one archive of %s are imported', async (kind) => {
  await removeAll();
  const work = await mkdtemp(join(base, 'several-'));
  const folder = join(work, 'both');
  const other = await mkdtemp(join(base, 'other-'));
  const second = await writeOciLayout(other, [writeTar([{ name: 'f', type: 'file', data: 'x' }])], { Cmd: ['/f'] });
  const [one, two] = ['example.test/one:1', 'example.test/two:2'];
  const copy = async (from: string, to: string) => execa('skopeo', ['--insecure-policy', 'copy', '--quiet', from, to]);
  if (kind === 'OCI') {
    await copy(`oci:${layout}`, `oci:${folder}:${one}`);
    await copy(`oci:${other}`, `oci:${folder}:${two}`);
  } else {
    // skopeo writes one image only: two archives become one.
    await mkdir(folder);
    const lists: unknown[] = [];
    for (const [from, name] of [
      [layout, one],
      [other, two],
    ] as const) {
      const file = join(work, 'single.tar');
      await copy(`oci:${from}`, `docker-archive:${file}:${name}`);
      await execa('tar', ['-xf', file, '-C', folder, '--overwrite']);
      lists.push(...(JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as unknown[]));
      await rm(file);
    }
    await chmod(join(folder, 'manifest.json'), 0o600);
    await writeFile(join(folder, 'manifest.json'), JSON.stringify(lists));
  }
  const archive = join(work, 'both.tar');
  await execa('tar', ['-cf', archive, '-C', folder, '.']);
  const { exitCode, text, stderr } = await command('image', 'import', archive);
  expect([exitCode, stderr, text]).toEqual([0, '', `${id} ${one}\n${second.configDigest} ${two}\n`]);
  const refused = await command('image', 'import', '--tag', 'x:1', archive);
  expect([refused.exitCode, refused.stderr]).toEqual([
    1,
    'kelyfos: both.tar has 2 images, which cannot all be docker.io/library/x:1\n',
  ]);
});

test.each(['oci', 'docker'])(
  'an image of a registry goes into an archive (%s) with its id, and back',
  async (format) => {
    await removeAll();
    const { cri: client } = node.daemon;
    await client.call('PullImage', { image: { image: node.image } });
    const original = await inspect(`oci:${layout}`);
    const file = join(await mkdtemp(join(base, 'exported-')), 'image.tar');
    await writeFile(file, 'replaced');
    const exported = await command('image', 'export', '--format', format, node.image, file);
    expect([exported.exitCode, exported.stderr]).toEqual([0, '']);
    expect(await readdir(join(file, '..'))).toEqual(['image.tar']);
    const found = await inspect(`${format}-archive:${file}:${node.image}`);
    expect(found.id).toBe(id);
    if (format === 'oci') expect(found).toEqual(original);
    const piped = await command('image', 'export', '--format', format, id.slice(7, 20), '-');
    expect(piped.exitCode).toBe(0);
    await writeFile(`${file}.piped`, piped.stdout);
    expect((await inspect(`${format}-archive:${file}.piped`)).id).toBe(id);

    await removeAll();
    expect((await command('image', 'import', file)).text).toBe(`${id} ${node.image}\n`);
    expect(await imageStatus(node.image)).toMatchObject({ id, repo_tags: [node.image] });
    // A pull finds everything here but what only a registry can tell.
    await client.call('PullImage', { image: { image: node.image } });
    const pulled = await imageStatus(node.image);
    expect(pulled?.id).toBe(id);
    expect(pulled?.repo_digests).toHaveLength(1);
    await expectNothingStaged();
  },
);

test('what cannot be imported or exported is refused in plain words, and leaves nothing', async () => {
  await removeAll();
  const scratch = await mkdtemp(join(base, 'bad-'));
  const said = async (...args: readonly string[]): Promise<string> => {
    const { exitCode, stderr, text } = await command('image', ...args);
    expect([exitCode, text]).toEqual([1, '']);
    return stderr;
  };
  const text = join(scratch, 'notes.txt');
  await writeFile(text, 'not an archive at all\n'.repeat(100));
  expect(await said('import', text)).toContain('notes.txt is no archive of images');
  const good = await readFile(await archiveOf('docker-archive:FILE:app:1'));
  const torn = join(scratch, 'torn.tar');
  await writeFile(torn, good.subarray(0, good.length / 2));
  expect(await said('import', torn)).toContain('torn.tar');
  // One bit of a layer: its digest is what the configuration says no more.
  const flipped = Buffer.from(good);
  const at = flipped.length >> 1;
  flipped[at] = (flipped[at] ?? 0) ^ 1;
  const bad = join(scratch, 'flipped.tar');
  await writeFile(bad, flipped);
  expect(await said('import', bad)).toMatch(/flipped\.tar|corrupt image/);
  expect(await said('import', '--tag', 'Not A Name', text)).toContain('image reference "Not A Name"');
  expect(await said('export', 'nothing:1', join(scratch, 'x.tar'))).toContain('image nothing:1 is not here');
  expect(await readdir(scratch)).not.toContain('x.tar');
  expect((await node.daemon.cri.call('ListImages', {})).images).toEqual([]);
  expect(await readdir(join(node.daemon.root, 'images/rootfs'))).toEqual([]);
  expect(await readdir(join(node.daemon.root, 'images/blobs/sha256'))).toEqual([]);
  await expectNothingStaged();
  expect((await stat(torn)).size).toBeGreaterThan(0);
});

test('an archive is judged by the signature policy', async () => {
  const archive = await archiveOf('oci-archive:FILE:app:1');
  const policy = join(node.daemon.folder, 'policy.json');
  const accepting = await readFile(policy, 'utf8');
  const transports = { 'oci-archive': { '': [{ type: 'reject' }] } };
  await writeFile(policy, JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }], transports }));
  try {
    const { exitCode, stderr } = await command('image', 'import', archive);
    expect([exitCode, stderr]).toEqual([1, expect.stringMatching(/^kelyfos: SignatureValidationFailed: import image/)]);
  } finally {
    await writeFile(policy, accepting);
  }
  expect((await command('image', 'import', archive)).exitCode).toBe(0);
});
