import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { quantile } from './statistics.ts';

/** The value of a `Key:  N kB` line, in MB of a million bytes. */
export function parseKilobytes(text: string, key: string): number {
  const kilobytes = new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
  if (kilobytes === undefined) throw new Error(`no ${key}`);
  return (Number(kilobytes) * 1024) / 1e6;
}

export async function availableMB(): Promise<number> {
  return parseKilobytes(await readFile('/proc/meminfo', 'utf8'), 'MemAvailable');
}

/** What a process has for itself and its share of what it shares. */
export async function proportionalMB(pid: number): Promise<number> {
  return parseKilobytes(await readFile(`/proc/${String(pid)}/smaps_rollup`, 'utf8'), 'Pss');
}

export interface Settling {
  /** Settled when all samples of a window lie within `rangeMB`. */
  readonly samples: number;
  readonly rangeMB: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly read?: () => Promise<number>;
}

export interface Settled {
  readonly availableMB: number;
  /** False when time ran out first: something else on the host takes or frees memory. */
  readonly settled: boolean;
}

/** MemAvailable once it rests: guests hand back free pages for some seconds after they fall idle. */
export async function settledMemory(settling: Settling): Promise<Settled> {
  const { samples, rangeMB, intervalMs, timeoutMs, read = availableMB } = settling;
  const deadline = performance.now() + timeoutMs;
  let window: number[] = [];
  for (;;) {
    window = [...window, await read()].slice(-samples);
    const settled = window.length === samples && Math.max(...window) - Math.min(...window) <= rangeMB;
    if (settled || performance.now() > deadline) return { availableMB: quantile(window, 0.5), settled };
    await delay(intervalMs);
  }
}

/** What of a process is in memory. */
export async function residentMB(pid: number): Promise<number> {
  return parseKilobytes(await readFile(`/proc/${String(pid)}/status`, 'utf8'), 'VmRSS');
}

const lookMs = 250;

/** Looks at MemAvailable until it is ended. */
export function lowestAvailable(): { end(): Promise<{ readonly firstMB: number; readonly lowestMB: number }> } {
  const stop = new AbortController();
  const seen: number[] = [];
  const looking = (async () => {
    while (!stop.signal.aborted) {
      seen.push(await availableMB());
      await delay(lookMs, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  })();
  return {
    end: async () => {
      stop.abort();
      await looking;
      return { firstMB: seen[0] ?? 0, lowestMB: Math.min(...seen) };
    },
  };
}
