import { readFile } from 'node:fs/promises';
import { AppError, hasCode } from '../platform/errors.ts';
import { parsePressure } from './pressure.ts';

export interface HostMemory {
  readonly availableBytes: number;
  /** Per cent of the last ten seconds in which some task waited for memory; 0 where the kernel does not tell. */
  readonly stalledPercent: number;
}

/** What the host has left, and whether that is enough for those who run. */
export async function readHostMemory(proc = '/proc'): Promise<HostMemory> {
  const [meminfo, pressure] = await Promise.all([
    readFile(`${proc}/meminfo`, 'utf8'),
    readFile(`${proc}/pressure/memory`, 'utf8').catch((error: unknown) => {
      // Kernels without pressure stall information, or with it switched off.
      if (hasCode(error, 'ENOENT', 'EOPNOTSUPP')) return undefined;
      throw error;
    }),
  ]);
  const kibibytes = /^MemAvailable: +(\d+) kB$/m.exec(meminfo)?.[1];
  if (kibibytes === undefined) throw new AppError('internal', `${proc}/meminfo has no MemAvailable`);
  return { availableBytes: Number(kibibytes) * 1024, stalledPercent: parsePressure(pressure)?.some.avg10 ?? 0 };
}
