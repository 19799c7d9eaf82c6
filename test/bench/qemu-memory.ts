import { readFile } from 'node:fs/promises';
import { parseKilobytes } from './memory.ts';

/** What a QEMU has that nobody else has, in MB: pages of its own, and the page tables for all it has mapped. */
export interface QemuMemory {
  /** Pages of the guest that differ from the template's. */
  readonly guestMB: number;
  /** The guest's code as the emulator has translated it; nothing under KVM. */
  readonly translatedMB: number;
  /** Heap, stacks, and what relocation has written to of programs and libraries. */
  readonly otherMB: number;
  readonly pageTablesMB: number;
}

const templateMemory = '/memfd:kelyfos-';

/** Sums up the anonymous pages in the text of /proc/PID/smaps: private copies of a file's pages are among them. */
export function parseMappings(smaps: string): Omit<QemuMemory, 'pageTablesMB'> {
  const sums = { guestMB: 0, translatedMB: 0, otherMB: 0 };
  for (const mapping of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const [, permissions, path] = /^\S+ (\S+) \S+ \S+ \S+ *(.*)$/m.exec(mapping) ?? [];
    if (permissions === undefined || path === undefined) continue;
    const part = path.startsWith(templateMemory)
      ? 'guestMB'
      : permissions.startsWith('rwx')
        ? 'translatedMB'
        : 'otherMB';
    sums[part] += parseKilobytes(mapping, 'Anonymous');
  }
  return sums;
}

export async function qemuMemory(pid: number): Promise<QemuMemory> {
  const of = (file: string): Promise<string> => readFile(`/proc/${String(pid)}/${file}`, 'utf8');
  const [smaps, status] = await Promise.all([of('smaps'), of('status')]);
  return { ...parseMappings(smaps), pageTablesMB: parseKilobytes(status, 'VmPTE') };
}
