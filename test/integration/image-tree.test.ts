import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { buildErofs, publishErofs, type NewErofs } from '../../src/image/erofs.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { mkfsErofs as mkfs } from '../harness/mkfs-erofs.ts';
import { writeOciLayout } from '../harness/oci-layout.ts';
import { readTar, writeTar, type TarEntry } from '../harness/tar-stream.ts';
import { unpacker } from '../harness/unpacker.ts';

const maxBytes = 2 ** 30;
let base: string;

beforeAll(async () => {
  base = await freeFolder('image-tree');
});
afterAll(async () => {
  await removeFolder(base);
});

/** Every entry of a folder as one line of text; several names of one file show as links to the first. */
async function describe(folder: string): Promise<string[]> {
  const flags = ['--sort=name', '--numeric-owner', '--xattrs', '--xattrs-include=*', '--format=pax'];
  const tar = await execa('tar', [...flags, '-C', folder, '-cf', '-', '.'], { encoding: 'buffer', maxBuffer: 2 ** 30 });
  return readTar(Buffer.from(tar.stdout)).map((e) => {
    const special = e.type === 'char' || e.type === 'block' ? ` ${String(e.major)}:${String(e.minor)}` : '';
    const content = e.type === 'file' ? ` ${contentOf(e)}` : '';
    const mode = e.type === 'symlink' ? '' : ` ${(e.mode ?? 0).toString(8)}`;
    // Applying a whiteout on the host changes the times of folders.
    const time = e.type === 'folder' ? '' : ` @${String(e.mtime)}`;
    const target = e.target === '' ? '' : ` -> ${String(e.target)}`;
    return `${e.name} ${e.type}${mode} ${String(e.uid)}:${String(e.gid)}${time}${special}${target}${content} ${JSON.stringify(sorted(e.xattrs))}`;
  });
}

/** File systems list attributes in an order of their own. */
function sorted(attributes: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(attributes).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function contentOf(entry: TarEntry): string {
  const data = Buffer.from(entry.data ?? '');
  return data.length <= 40 ? JSON.stringify(data.toString()) : `${String(data.length)} bytes ${String(crc(data))}`;
}

function crc(data: Buffer): number {
  return data.reduce((sum, byte) => (sum * 31 + byte) >>> 0, 7);
}

async function mounted<T>(image: string, use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(base, 'mnt-'));
  await execa('mount', ['-t', 'erofs', '-o', 'ro,loop', image, folder]);
  try {
    return await use(folder);
  } finally {
    await execa('umount', [folder]);
  }
}

interface PackedLayer {
  /** The archive. */
  readonly tar: Uint8Array;
  /** What is stored of it, when that is not the archive itself. */
  readonly packed?: Uint8Array;
}

async function build(layers: readonly PackedLayer[], limit = maxBytes): Promise<string> {
  const folder = await mkdtemp(join(base, 'build-'));
  async function* files(): AsyncGenerator<string> {
    for (const [i, { tar, packed }] of layers.entries()) {
      const file = join(folder, `blob-${String(i)}`);
      await writeFile(file, packed ?? tar);
      yield file;
    }
  }
  const target = join(folder, 'image.erofs');
  const options = { unpacker, mkfs, maxBytes: limit, stallMs: 5_000 };
  const made = await buildErofs(options, files(), join(folder, 'staging'), AbortSignal.timeout(60_000));
  expect(made.diffIds).toEqual(layers.map(({ tar }) => `sha256:${createHash('sha256').update(tar).digest('hex')}`));
  await publishErofs(made, limit, target);
  return target;
}

const tree = async (layers: readonly (readonly TarEntry[])[]): Promise<string[]> =>
  await mounted(await build(layers.map((layer) => ({ tar: writeTar(layer) }))), describe);

/** The tree that umoci, an independent implementation of the image specification, makes of the same layers. */
async function referenceTree(layers: readonly (readonly TarEntry[])[]): Promise<string[]> {
  const folder = await mkdtemp(join(base, 'reference-'));
  const layout = join(folder, 'layout');
  await mkdir(layout);
  await writeOciLayout(layout, layers.map(writeTar), {});
  const index = join(layout, 'index.json');
  const { manifests } = JSON.parse(await readFile(index, 'utf8')) as {
    manifests: Record<string, unknown>[];
  };
  const named = manifests.map((m) => ({ ...m, annotations: { 'org.opencontainers.image.ref.name': 'it' } }));
  await writeFile(index, JSON.stringify({ schemaVersion: 2, manifests: named }));
  await execa('umoci', ['raw', 'unpack', '--image', `${layout}:it`, join(folder, 'rootfs')]);
  return await describe(join(folder, 'rootfs'));
}

const longName = 'n'.repeat(250);
const longPath = Array.from({ length: 12 }, (_, i) => `${String(i)}-${'deep'.repeat(12)}`);

const everything: readonly TarEntry[] = [
  { name: './', type: 'folder', mode: 0o755 },
  { name: 'etc/', type: 'folder' },
  { name: 'etc/passwd', type: 'file', data: 'root:x:0:0::/root:/bin/sh\n' },
  { name: 'etc/shadow', type: 'file', mode: 0o640, gid: 42, data: '' },
  { name: 'bin/', type: 'folder' },
  { name: 'bin/su', type: 'file', mode: 0o4755, data: 'setuid' },
  { name: 'bin/wall', type: 'file', mode: 0o2755, gid: 5, data: 'setgid' },
  {
    name: 'bin/ping',
    type: 'file',
    mode: 0o755,
    data: 'x',
    xattrs: { 'security.capability': '\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0' },
  },
  { name: 'etc/tagged', type: 'file', data: 'x', xattrs: { 'user.note': 'a value', 'trusted.other': 'b=c\nd' } },
  { name: 'tmp/', type: 'folder', mode: 0o1777 },
  { name: 'bin/sh', type: 'symlink', target: '/bin/busybox' },
  { name: 'bin/dangling', type: 'symlink', target: 'x'.repeat(300) },
  { name: 'bin/busybox', type: 'file', mode: 0o755, data: Buffer.alloc(70_000, 'busybox') },
  { name: 'bin/ls', type: 'hardlink', target: 'bin/busybox' },
  { name: 'bin/cat', type: 'hardlink', target: './bin/busybox' },
  { name: 'dev/', type: 'folder' },
  { name: 'dev/null', type: 'char', mode: 0o666, major: 1, minor: 3 },
  { name: 'dev/vda', type: 'block', mode: 0o660, gid: 6, major: 254, minor: 259 },
  { name: 'dev/initctl', type: 'fifo', mode: 0o600 },
  { name: 'home/', type: 'folder', uid: 70_000, gid: 65_534 },
  { name: 'home/größe-日本語-🐚', type: 'file', uid: 1_000, gid: 1_000, data: 'unicode' },
  { name: `home/${longName}`, type: 'file', data: 'long' },
  { name: 'home/link-to-long', type: 'hardlink', target: `home/${longName}` },
  ...longPath.map((_, i): TarEntry => ({ name: `home/${longPath.slice(0, i + 1).join('/')}/`, type: 'folder' })),
  { name: `home/${longPath.join('/')}/file`, type: 'file', data: 'deep' },
  { name: 'home/zeros', type: 'file', data: Buffer.alloc(3_000_000) },
  { name: 'home/empty', type: 'file' },
  { name: 'home/old', type: 'file', data: 'x', mtime: 0 },
];

test('every kind of file survives', async () => {
  const got = await tree([everything]);
  expect(got).toEqual(await referenceTree([everything]));
  const line = (name: string): string => got.find((l) => l.startsWith(`./${name} `)) ?? '';
  expect(line('bin/su')).toContain(' file 4755 0:0 ');
  expect(line('bin/ping')).toContain('security.capability');
  expect(line('etc/tagged')).toContain('"trusted.other":"b=c\\nd"');
  expect(line('dev/vda')).toContain('block 660 0:6 @1000000000 254:259');
  expect(line('home/größe-日本語-🐚')).toContain('1000:1000');
  // Three names of one file; tar shows the first in order as the file.
  expect(got.filter((l) => l.includes('hardlink') && l.includes('bin/busybox'))).toHaveLength(2);
});

test('a root folder that no layer names belongs to root and is not writable by others', async () => {
  expect((await tree([[{ name: 'a', type: 'file' }]]))[0]).toMatch(/^\.\/ folder 755 0:0 /);
});

test('an image without layers is an empty root folder', async () => {
  expect(await tree([])).toHaveLength(1);
});

const lower: readonly TarEntry[] = [
  { name: 'a/', type: 'folder', mode: 0o700 },
  { name: 'a/one', type: 'file', data: '1' },
  { name: 'a/two', type: 'file', data: '2' },
  { name: 'a/deep/', type: 'folder' },
  { name: 'a/deep/three', type: 'file', data: '3' },
  { name: 'b/', type: 'folder' },
  { name: 'b/file', type: 'file', data: 'below' },
  { name: 'b/sub/', type: 'folder' },
  { name: 'b/sub/x', type: 'file', data: 'x' },
  { name: 'c', type: 'symlink', target: 'b' },
  { name: 'd', type: 'file', data: 'd' },
  { name: 'd2', type: 'hardlink', target: 'd' },
  { name: 'e/', type: 'folder' },
  { name: 'e/f', type: 'file', data: 'f' },
];

const uppers: Readonly<Record<string, readonly TarEntry[]>> = {
  'a whiteout removes a file': [
    { name: 'a/', type: 'folder', mode: 0o700 },
    { name: 'a/.wh.one', type: 'file' },
  ],
  'a whiteout removes a folder with all in it': [{ name: '.wh.a', type: 'file' }],
  'a whiteout of nothing does nothing': [{ name: 'b/.wh.nothing', type: 'file' }],
  'an opaque folder hides all below it': [
    { name: 'b/', type: 'folder', mode: 0o711 },
    { name: 'b/.wh..wh..opq', type: 'file' },
    { name: 'b/new', type: 'file', data: 'new' },
  ],
  'an opaque mark may come after the new entries': [
    { name: 'b/', type: 'folder' },
    { name: 'b/new', type: 'file', data: 'new' },
    { name: 'b/.wh..wh..opq', type: 'file' },
  ],
  'a folder is replaced by a file': [{ name: 'b', type: 'file', data: 'now a file' }],
  'a file is replaced by a folder': [
    { name: 'd/', type: 'folder' },
    { name: 'd/in', type: 'file', data: 'in' },
  ],
  'a file is replaced': [{ name: 'a/one', type: 'file', mode: 0o600, data: 'changed' }],
  'one name of a file is replaced, the other stays': [{ name: 'd', type: 'file', data: 'other' }],
  'one name of a file is removed, the other stays': [{ name: '.wh.d', type: 'file' }],
  'the mode of a folder changes, its content stays': [{ name: 'a/', type: 'folder', mode: 0o750, uid: 7 }],
  'the root folder changes': [{ name: './', type: 'folder', mode: 0o711, uid: 3 }],
  'a new hard link': [
    { name: 'h1', type: 'file', data: 'h' },
    { name: 'e/h2', type: 'hardlink', target: 'h1' },
  ],
  'a file below a folder that the layer does not describe': [{ name: 'a/deep/four', type: 'file', data: '4' }],
  'a file below folders that no layer describes': [{ name: 'x/y/z', type: 'file', data: 'z' }],
  'a file below a symlink goes where it leads': [{ name: 'c/through', type: 'file', data: 'through' }],
  'a whiteout below a symlink hits where it leads': [{ name: 'c/.wh.file', type: 'file' }],
  'a hard link below a symlink': [
    { name: 'c/h1', type: 'file', data: 'h' },
    { name: 'h2', type: 'hardlink', target: 'c/h1' },
  ],
  'a hard link to a file of a lower layer': [{ name: 'e/one', type: 'hardlink', target: 'a/one' }],
  'a hard link through a symlink to a file of a lower layer': [{ name: 'e/one', type: 'hardlink', target: 'c/file' }],
  'an opaque folder keeps the folders of its own layer': [
    { name: 'b/', type: 'folder' },
    { name: 'b/sub/', type: 'folder', mode: 0o701 },
    { name: 'b/sub/y', type: 'file', data: 'y' },
    { name: 'b/.wh..wh..opq', type: 'file' },
  ],
  'a folder comes back after its whiteout in the same layer': [
    { name: '.wh.b', type: 'file' },
    { name: 'b/', type: 'folder', mode: 0o770 },
    { name: 'b/fresh', type: 'file', data: 'fresh' },
  ],
  'a whiteout after the new folder': [
    { name: 'b/', type: 'folder', mode: 0o770 },
    { name: 'b/fresh', type: 'file', data: 'fresh' },
    { name: '.wh.b', type: 'file' },
  ],
  'a whiteout before and after the new file': [
    { name: '.wh.d', type: 'file' },
    { name: 'd', type: 'file', data: 'new d' },
    { name: 'a/', type: 'folder' },
    { name: 'a/one', type: 'file', data: 'new one' },
    { name: 'a/.wh.one', type: 'file' },
  ],
  'a symlink is replaced by a folder': [
    { name: 'c/', type: 'folder' },
    { name: 'c/own', type: 'file', data: 'own' },
  ],
};

test.each(Object.entries(uppers))('layers: %s', async (_, upper) => {
  expect(await tree([lower, upper])).toEqual(await referenceTree([lower, upper]));
});

test('a hard link to something that is not there is refused', async () => {
  for (const target of ['a/none', 'a/deep']) {
    await expect(tree([lower, [{ name: 'e/one', type: 'hardlink', target }]])).rejects.toThrow('corrupt image');
  }
});

test('a file removed in one layer comes back in a later one', async () => {
  const layers: TarEntry[][] = [
    [...lower],
    [{ name: '.wh.a', type: 'file' }],
    [
      { name: 'a/', type: 'folder' },
      { name: 'a/again', type: 'file', data: 'again' },
    ],
    [{ name: 'e/.wh.f', type: 'file' }],
  ];
  expect(await tree(layers)).toEqual(await referenceTree(layers));
});

test('thirty layers, the last word counts', async () => {
  const layers = Array.from({ length: 30 }, (_, i): TarEntry[] => [
    { name: 'count', type: 'file', data: String(i) },
    { name: `layer-${String(i)}`, type: 'file', data: 'x' },
    ...(i === 0 ? [] : [{ name: `.wh.layer-${String(i - 1)}`, type: 'file' } as const]),
  ]);
  const got = await tree(layers);
  expect(got.map((line) => line.split(' ')[0])).toEqual(['./', './count', './layer-29']);
  expect(got[1]).toContain('"29"');
});

test('layers may be plain tar, gzip and zstd', async () => {
  const file = (name: string): Buffer => writeTar([{ name, type: 'file', data: Buffer.alloc(500_000, name) }]);
  const image = await build([
    { tar: file('plain') },
    { tar: file('gzip'), packed: gzipSync(file('gzip')) },
    { tar: file('zstd'), packed: zstdCompressSync(file('zstd')) },
  ]);
  expect(await mounted(image, (folder) => readdir(folder))).toEqual(['gzip', 'plain', 'zstd']);
});

test('every image has the same size, is read-only and owned by root', async () => {
  const found = await stat(await build([{ tar: writeTar(everything) }]));
  expect(found.size).toBe(maxBytes);
  expect(found.mode & 0o777).toBe(0o444);
  expect([found.uid, found.gid]).toEqual([0, 0]);
  expect(found.blocks * 512).toBeLessThan(8_000_000);
});

test('an image that unpacks to more than the limit is refused', async () => {
  const tar = writeTar([{ name: 'big', type: 'file', data: Buffer.alloc(64 << 20, 1) }]);
  await expect(build([{ tar, packed: zstdCompressSync(tar) }], 32 << 20)).rejects.toMatchObject({
    kind: 'exhausted',
    message: expect.stringContaining('limit'),
  });
});

test('a layer cut anywhere is an error at once', async () => {
  const whole = writeTar([
    { name: 'dir/', type: 'folder' },
    { name: `dir/${longName}`, type: 'file', data: Buffer.alloc(30_000, 1), xattrs: { 'user.x': 'y' } },
    { name: 'dir/second', type: 'file', data: Buffer.alloc(30_000, 2) },
  ]);
  const started = performance.now();
  for (const cut of [1, 100, 700, 1_024, 1_536, 2_048, 5_000, 32_000, 40_000]) {
    const tar = whole.subarray(0, cut);
    await expect(build([{ tar }])).rejects.toThrow('corrupt image: layer is not a proper tar');
    await expect(build([{ tar, packed: gzipSync(tar) }])).rejects.toThrow('corrupt image: layer is not a proper tar');
  }
  const packed = gzipSync(whole);
  await expect(build([{ tar: whole, packed: packed.subarray(0, -20) }])).rejects.toThrow('cannot be decompressed');
  const zstd = zstdCompressSync(whole);
  await expect(build([{ tar: whole, packed: zstd.subarray(0, -20) }])).rejects.toThrow('corrupt image');
  expect(performance.now() - started).toBeLessThan(10_000);
});

test('an archive without end marks is read as one that has them', async () => {
  const tar = writeTar([{ name: 'a', type: 'file', data: 'x'.repeat(600) }]);
  for (const cut of [512, 1_024]) {
    const image = await build([{ tar: tar.subarray(0, -cut) }]);
    expect(await mounted(image, (folder) => readdir(folder))).toEqual(['a']);
  }
});

test('names that climb out of the image are refused or stay inside', async () => {
  for (const name of ['../evil', 'a/../../evil', '/abs']) {
    const result = await build([{ tar: writeTar([{ name, type: 'file', data: 'x' }]) }]).then(
      async (image) => await mounted(image, (folder) => readdir(folder)),
      (error: unknown) => String(error),
    );
    expect(typeof result === 'string' ? result : result.join()).toMatch(/corrupt image|^abs$|^evil$|^a,evil$/);
  }
});

async function* none(): AsyncGenerator<string> {
  // An image without layers.
}

test('the converter runs as nobody, without network, with limits', async () => {
  // A stand-in that tells what it is allowed to do and fails.
  const folder = await mkdtemp(join(base, 'spy-'));
  const spy = join(folder, 'spy');
  const show =
    'grep -hE "^(Uid|Gid|Groups|NoNewPrivs|CapEff|CapBnd)" /proc/self/status; ulimit -f; ulimit -t; cat /proc/net/dev | wc -l';
  await writeFile(spy, `#!/bin/sh\n{ ${show}; touch /tmp/kelyfos-spy; } >&2\nexit 3\n`, { mode: 0o755 });
  const staging = join(folder, 'staging');
  const options = { unpacker, mkfs: spy, maxBytes, stallMs: 5_000 };
  const run = buildErofs(options, none(), staging, AbortSignal.timeout(10_000));
  const error = await run.then(
    () => '',
    (e: unknown) => String(e),
  );
  expect(error).toMatch(/Uid:\s+65534\s+65534\s+65534\s+65534/);
  expect(error).toMatch(/Gid:\s+65534\s+65534\s+65534\s+65534/);
  expect(error).toMatch(/NoNewPrivs:\s+1/);
  expect(error).toMatch(/CapEff:\s+0000000000000000/);
  expect(error).toMatch(/CapBnd:\s+0000000000000000/);
  // Blocks of 512 bytes; seconds.
  expect(error).toContain(`\n${String(maxBytes / 512)}\n`);
  expect(error).toContain('\n1800\n');
  expect(error).toMatch(/\n3$/);
  await removeFolder('/tmp/kelyfos-spy');
});

test('a converter that could not write and goes on all the same has failed', async () => {
  const folder = await mkdtemp(join(base, 'full-'));
  const full = join(folder, 'full');
  const script = '#!/bin/sh\ncat >/dev/null\n: >image.erofs\necho "failed to write: No space left on device" >&2\n';
  await writeFile(full, script, { mode: 0o755 });
  const options = { unpacker, mkfs: full, maxBytes, stallMs: 5_000 };
  await expect(buildErofs(options, none(), join(folder, 'a'), AbortSignal.timeout(20_000))).rejects.toMatchObject({
    kind: 'exhausted',
    message: expect.stringContaining('no space left'),
  });
});

test('a converter that spins is stopped, a cancelled one too', async () => {
  const folder = await mkdtemp(join(base, 'spin-'));
  const spin = join(folder, 'spin');
  await writeFile(spin, '#!/bin/sh\nwhile :; do :; done\n', { mode: 0o755 });
  const options = { unpacker, mkfs: spin, maxBytes, stallMs: 1_500 };
  const run = (name: string, signal: AbortSignal): Promise<NewErofs> =>
    buildErofs(options, none(), join(folder, name), signal);
  await expect(run('a', AbortSignal.timeout(20_000))).rejects.toMatchObject({ kind: 'deadline' });
  const started = performance.now();
  const cancelled = new AbortController();
  setTimeout(() => {
    cancelled.abort();
  }, 300);
  await expect(run('b', cancelled.signal)).rejects.toMatchObject({ kind: 'cancelled' });
  expect(performance.now() - started).toBeLessThan(1_400);
  const left = await execa('pgrep', ['-u', '65534', '-a', 'spin|sh'], { reject: false });
  expect(left.stdout).not.toContain('/proc/self/fd/3');
});
