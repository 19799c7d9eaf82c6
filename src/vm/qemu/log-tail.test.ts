import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { logTail, oneLine } from './log-tail.ts';

test('takes the end of a log, on one line', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kelyfos-log-'));
  try {
    const path = join(folder, 'log');
    await writeFile(path, `${'x'.repeat(10_000)}\nlast line\n`);
    const tail = await logTail(path);
    expect(tail.endsWith('x | last line')).toBe(true);
    expect(tail.length).toBeLessThan(4_200);
    expect(await logTail(join(folder, 'missing'))).toBe('');
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('what a guest writes cannot move the cursor or forge lines', () => {
  expect(oneLine('\u001Bc\u001B[?7l\u001B[2JSeaBIOS\r\nBooting\u0007\n\n')).toBe('SeaBIOS | Booting');
});
