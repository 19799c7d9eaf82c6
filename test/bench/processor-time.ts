import { readFile } from 'node:fs/promises';

/** The kernel's clock for user space (USER_HZ), the same on every architecture that QEMU runs guests on. */
const ticksPerSecond = 100;

/** User and system time in the text of /proc/PID/stat, in seconds. */
export function parseProcessorSeconds(stat: string): number {
  // The name of the program, in brackets, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [user, system] = [fields[11], fields[12]].map(Number);
  if (user === undefined || system === undefined || Number.isNaN(user + system)) throw new Error(`no times in ${stat}`);
  return (user + system) / ticksPerSecond;
}

/** What a process with all its threads has used of processors since it began. */
export async function processorSeconds(pid: number): Promise<number> {
  return parseProcessorSeconds(await readFile(`/proc/${String(pid)}/stat`, 'utf8'));
}
