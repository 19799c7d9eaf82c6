import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { execa } from 'execa';
import { rehearsalExecutable } from './rehearsal-image.ts';

test('the rehearsal program runs: it writes its line, and waits when told to', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kelyfos-rehearsal-'));
  try {
    const program = join(folder, 'rehearse');
    await writeFile(program, rehearsalExecutable());
    await chmod(program, 0o755);
    expect(await execa(program)).toMatchObject({ stdout: 'rehearsal', exitCode: 0 });
    const waits = execa(program, ['wait'], { reject: false, stripFinalNewline: false });
    for await (const line of waits) {
      expect(line).toBe('rehearsal');
      waits.kill('SIGTERM');
    }
    expect(await waits).toMatchObject({ signal: 'SIGTERM' });
  } finally {
    await rm(folder, { recursive: true });
  }
});
