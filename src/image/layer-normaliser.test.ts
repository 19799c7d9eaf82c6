import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readTar, writeTar, type TarEntry } from '../../test/harness/tar-stream.ts';
import { LayerNormaliser } from './layer-normaliser.ts';

async function* chunked(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  for (let at = 0, i = 0; at < bytes.length; i += 1) {
    const size = sizes[i % sizes.length] ?? bytes.length;
    yield await Promise.resolve(bytes.subarray(at, at + size));
    at += size;
  }
}

async function normalise(
  layers: readonly (readonly TarEntry[] | Buffer)[],
  sizes: readonly number[] = [65_536],
  limit = 1e9,
): Promise<TarEntry[][]> {
  const archives = layers.map((layer) => (Buffer.isBuffer(layer) ? layer : writeTar(layer)));
  const normaliser = new LayerNormaliser(limit, (index) =>
    Promise.resolve({
      bytes: chunked(archives[index] ?? Buffer.alloc(0), sizes),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }),
  );
  const results: TarEntry[][] = [];
  for (const archive of archives) {
    const parts: Buffer[] = [];
    for await (const part of normaliser.layer(chunked(archive, sizes), () => undefined)) parts.push(part);
    const result = Buffer.concat(parts);
    expect(result.length % 512).toBe(0);
    results.push(readTar(result));
  }
  return results;
}

const names = (entries: readonly TarEntry[] | undefined): string[] => (entries ?? []).map(({ name }) => name);

test('folders that are not described come from the layers below, then from nowhere', async () => {
  const [, upper] = await normalise([
    [{ name: 'a/', type: 'folder', mode: 0o700, uid: 5, xattrs: { 'user.x': 'y' } }],
    [{ name: 'a/b/c', type: 'file' }],
  ]);
  expect(names(upper)).toEqual(['./', 'a/', 'a/b/', 'a/b/c']);
  expect(upper?.[1]).toMatchObject({ mode: 0o700, uid: 5, xattrs: { 'user.x': 'y' } });
  expect(upper?.[2]).toMatchObject({ mode: 0o755, uid: 0 });
});

test('symlinks of lower layers are followed, without end they are not', async () => {
  const lower: TarEntry[] = [
    { name: 'usr/lib/', type: 'folder' },
    { name: 'lib', type: 'symlink', target: 'usr/lib' },
    { name: 'usr/up', type: 'symlink', target: '../../../lib' },
    { name: 'abs', type: 'symlink', target: '/usr/up' },
    { name: 'loop', type: 'symlink', target: 'loop/x' },
  ];
  const [, upper] = await normalise([lower, [{ name: 'abs/so', type: 'file' }]]);
  expect(names(upper).at(-1)).toBe('usr/lib/so');
  await expect(normalise([lower, [{ name: 'loop/y', type: 'file' }]])).rejects.toThrow('too many symlinks');
});

test('other forms of archive are understood', async () => {
  const long = `${'d'.repeat(90)}/${'f'.repeat(120)}`;
  const header = (flag: string, size: number): Buffer => {
    const [block] = [writeTar([{ name: '././@LongLink', type: 'file', data: Buffer.alloc(size) }]).subarray(0, 512)];
    block.write(flag, 156);
    block.write(' '.repeat(8), 148);
    block.write(
      `${block
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, '0')}\0 `,
      148,
    );
    return block;
  };
  const pad = (text: string): Buffer =>
    Buffer.concat([Buffer.from(text), Buffer.alloc(512 - (Buffer.byteLength(text) % 512))]);
  const gnu = Buffer.concat([
    header('L', long.length + 1),
    pad(long),
    writeTar([{ name: 'short', type: 'file', data: 'x' }]),
  ]);
  expect(names((await normalise([gnu]))[0]).at(-1)).toBe(long);
  const global = Buffer.concat([header('g', 20), pad('20 comment=something'), writeTar([{ name: 'a', type: 'file' }])]);
  expect(names((await normalise([global]))[0])).toEqual(['./', 'a']);
});

test('what makes no sense is refused', async () => {
  const refused = (layer: readonly TarEntry[], text: string): Promise<void> =>
    expect(normalise([layer])).rejects.toMatchObject({
      kind: 'failed-precondition',
      message: expect.stringContaining(text),
    });
  await refused([{ name: '../a', type: 'file' }], 'upwards');
  await refused([{ name: 'a', type: 'hardlink', target: '../../etc/shadow' }], 'upwards');
  await refused([{ name: 'a', type: 'hardlink', target: 'b' }], 'which is not there');
  await refused([{ name: '.', type: 'file' }], 'root');
  expect((await normalise([[{ name: 'old/', type: 'file' }]]))[0]?.[1]).toMatchObject({ name: 'old/', type: 'folder' });
  await refused([{ name: 'a/.wh.b', type: 'file', data: 'x' }], 'whiteout');
  await expect(normalise([Buffer.alloc(700, 1)])).rejects.toThrow('checksum');
  await expect(normalise([[{ name: 'a', type: 'file', data: Buffer.alloc(600) }]], [512], 500)).rejects.toMatchObject({
    kind: 'exhausted',
  });
});

const content: readonly TarEntry[] = [
  { name: 'a/', type: 'folder' },
  { name: 'a/ä', type: 'file', data: 'x'.repeat(1_000) },
  { name: `a/${'n'.repeat(200)}`, type: 'file', data: 'y', xattrs: { 'user.z': 'ÿ=\n' } },
  { name: 'l', type: 'symlink', target: 'a' },
  { name: 'h', type: 'hardlink', target: 'a/ä' },
];

test('the size of the chunks does not matter', async () => {
  const whole = await normalise([content]);
  expect(names(whole[0])).toEqual(['./', 'a/', 'a/ä', `a/${'n'.repeat(200)}`, 'l', 'h']);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 2_000 }), { minLength: 1, maxLength: 8 }), async (sizes) => {
      expect(await normalise([content], sizes)).toEqual(whole);
    }),
    { numRuns: 50 },
  );
});

test('a cut or changed archive is an error of ours or an archive', async () => {
  const bytes = writeTar(content);
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(255), fc.boolean(), async (at, value, cut) => {
      const broken = Buffer.from(cut ? bytes.subarray(0, at) : bytes);
      if (!cut) broken[at] = value;
      await normalise([broken]).catch((error: unknown) => {
        expect(error).toMatchObject({ name: 'AppError' });
      });
    }),
    { numRuns: 500 },
  );
});
