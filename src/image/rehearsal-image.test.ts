import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { makeRehearsalImage } from './rehearsal-image.ts';

const mebibyte = 1024 ** 2;

test('the image has the size of every image, and one of an earlier version is replaced', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kelyfos-rehearsal-'));
  try {
    const options = {
      path: join(folder, 'rehearsal.erofs'),
      mkfsErofs: join(import.meta.dirname, '../../libexec/mkfs.erofs'),
      bytes: 512 * mebibyte,
    };
    await makeRehearsalImage(options);
    const first = await stat(options.path);
    expect(first.size).toBe(options.bytes);
    await makeRehearsalImage(options);
    expect((await stat(options.path)).ino).not.toBe(first.ino);
    await expect(makeRehearsalImage({ ...options, mkfsErofs: join(folder, 'none') })).rejects.toThrow(
      `make the rehearsal image ${options.path}`,
    );
  } finally {
    await rm(folder, { recursive: true });
  }
});
