import { readFile } from 'node:fs/promises';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';

/** What figures depend on and nobody remembers later. */
export interface HostDescription {
  readonly kernel: string;
  readonly cpuModel: string;
  readonly cpus: number;
  readonly memoryMB: number;
  readonly loadAverage: readonly number[];
}

export function describeHost(): HostDescription {
  const processors = cpus();
  return {
    kernel: release(),
    cpuModel: processors[0]?.model ?? 'unknown',
    cpus: processors.length,
    memoryMB: Math.round(totalmem() / 1e6),
    loadAverage: loadavg(),
  };
}

/** Shares of the processors' time since the host started, from the first line of /proc/stat. */
export function parseCpuTimes(stat: string): { readonly idle: number; readonly total: number } {
  const numbers = (/^cpu\s+(.*)$/m.exec(stat)?.[1] ?? '').split(/\s+/).map(Number);
  // user nice system idle iowait irq softirq steal; guest times are part of the user's.
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = numbers;
  return { idle: idle + iowait, total: user + nice + system + idle + iowait + irq + softirq + steal };
}

/** How busy all processors were together for a while, in percent. */
export async function busyPercent(durationMs: number): Promise<number> {
  const before = parseCpuTimes(await readFile('/proc/stat', 'utf8'));
  await delay(durationMs);
  const after = parseCpuTimes(await readFile('/proc/stat', 'utf8'));
  const total = after.total - before.total;
  return total === 0 ? 0 : 100 * (1 - (after.idle - before.idle) / total);
}
