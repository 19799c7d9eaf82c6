import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { execa } from 'execa';
import { tinyProgram } from './tiny-program.ts';

test('it runs and ends with 0', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kelyfos-tiny-'));
  try {
    const path = join(folder, 'tiny');
    await writeFile(path, tinyProgram(), { mode: 0o755 });
    expect(await execa(path)).toMatchObject({ exitCode: 0, stdout: '', stderr: '' });
  } finally {
    await rm(folder, { recursive: true });
  }
});
