import { appendFile, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { silentLog } from '../../platform/log.ts';
import { boundLog } from './bounded-log.ts';

test('a log keeps its size until it is too long, then begins anew', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kelyfos-log-'));
  const path = join(folder, 'serial.log');
  const size = async (): Promise<number> => (await stat(path)).size;
  try {
    using _bound = boundLog(path, 100, silentLog(), 5);
    await appendFile(path, 'x'.repeat(100));
    await delay(50);
    expect(await size()).toBe(100);
    await appendFile(path, 'y');
    while ((await size()) > 0) await delay(5);
    await appendFile(path, 'z');
    expect(await size()).toBe(1);
  } finally {
    await rm(folder, { recursive: true });
  }
});
