import { expect, test } from '@jest/globals';
import { parseKilobytes, settledMemory } from './memory.ts';

const meminfo = 'MemTotal:       24689756 kB\nMemAvailable:    1000000 kB\nDirectMap1G:    8388608 kB\n';

test('kilobytes of the kernel are 1024 bytes, ours are millions', () => {
  expect(parseKilobytes(meminfo, 'MemAvailable')).toBe(1024);
  expect(() => parseKilobytes(meminfo, 'Pss')).toThrow('no Pss');
});

test('memory has settled when a whole window is level', async () => {
  const values = [900, 700, 650, 641, 640, 640, 1];
  const read = (): Promise<number> => Promise.resolve(values.shift() ?? 0);
  const settling = { samples: 3, rangeMB: 2, intervalMs: 0, timeoutMs: 10_000, read };
  expect(await settledMemory(settling)).toEqual({ availableMB: 640, settled: true });
});

test('memory that never settles is said to be so', async () => {
  let value = 0;
  const read = (): Promise<number> => Promise.resolve((value += 100));
  expect(await settledMemory({ samples: 3, rangeMB: 2, intervalMs: 0, timeoutMs: -1, read })).toMatchObject({
    settled: false,
  });
});
