import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import pino from 'pino';
import { type HostMemory, readHostMemory } from './host-memory.ts';
import { MemoryWatch } from './memory-watch.ts';

const mebibyte = 1024 ** 2;

function rig(): {
  watch: MemoryWatch;
  lines: string[];
  look: (memory: Partial<HostMemory> | Error) => Promise<string | undefined>;
} {
  const lines: string[] = [];
  let next: HostMemory | Error = new Error('nothing yet');
  const watch = new MemoryWatch({
    reserveBytes: 1_000 * mebibyte,
    read: async () => {
      if (next instanceof Error) throw next;
      return next;
    },
    log: pino({}, { write: (line: string) => lines.push((JSON.parse(line) as { msg: string }).msg) }),
  });
  return {
    watch,
    lines,
    look: async (memory) => {
      next = memory instanceof Error ? memory : { availableBytes: 9_000 * mebibyte, stalledPercent: 0, ...memory };
      await watch.look();
      return watch.shortage;
    },
  };
}

test('memory is short below the reserve, until there is a quarter more', async () => {
  const { look, lines } = rig();
  expect(await look({ availableBytes: 1_001 * mebibyte })).toBeUndefined();
  expect(await look({ availableBytes: 900 * mebibyte })).toBe('900 MiB available, 1000 MiB wanted');
  expect(await look({ availableBytes: 1_100 * mebibyte })).toBe('1100 MiB available, 1250 MiB wanted');
  expect(await look({ availableBytes: 1_300 * mebibyte })).toBeUndefined();
  expect(lines).toEqual([
    'memory is short, pools shrink: 900 MiB available, 1000 MiB wanted',
    'memory is no longer short, pools fill again',
  ]);
});

test('and while tasks wait for it, however much there seems to be', async () => {
  const { look } = rig();
  expect(await look({ stalledPercent: 10 })).toBeUndefined();
  expect(await look({ stalledPercent: 11 })).toBe('tasks waited for it in 11 % of the last 10 s');
  expect(await look({ stalledPercent: 3 })).toBe('tasks waited for it in 3 % of the last 10 s');
  expect(await look({ stalledPercent: 1 })).toBeUndefined();
});

test('without knowing nothing changes, which is told once', async () => {
  const { look, lines } = rig();
  expect(await look({ availableBytes: 0 })).toBeDefined();
  expect(await look(new Error('no /proc'))).toBeDefined();
  expect(await look(new Error('no /proc'))).toBeDefined();
  expect(lines).toHaveLength(2);
});

test('the host tells', async () => {
  const { availableBytes, stalledPercent } = await readHostMemory();
  expect(availableBytes).toBeGreaterThan(mebibyte);
  expect(stalledPercent).toBeGreaterThanOrEqual(0);
});

test('a kernel without pressure stall information is taken for one without pressure', async () => {
  const proc = await mkdtemp(join(tmpdir(), 'kelyfos-proc-'));
  try {
    await writeFile(join(proc, 'meminfo'), 'MemTotal:       24684000 kB\nMemAvailable:     102400 kB\n');
    expect(await readHostMemory(proc)).toEqual({ availableBytes: 100 * mebibyte, stalledPercent: 0 });
    await mkdir(join(proc, 'pressure'));
    await writeFile(
      join(proc, 'pressure/memory'),
      'some avg10=12.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n',
    );
    expect(await readHostMemory(proc)).toMatchObject({ stalledPercent: 12.5 });
    await writeFile(join(proc, 'meminfo'), 'MemTotal: 1 kB\n');
    await expect(readHostMemory(proc)).rejects.toThrow('has no MemAvailable');
  } finally {
    await rm(proc, { recursive: true });
  }
});
