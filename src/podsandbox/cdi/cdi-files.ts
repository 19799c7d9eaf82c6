import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { hasCode, messageOf } from '../../platform/errors.ts';
import { cdiSpec, type CdiEdits, type CdiSpec } from './cdi-spec.ts';

/** What a device of that name asks for. */
export interface CdiDevice {
  /** Those of the file it is in, then its own. */
  readonly file: string;
  readonly shared: CdiEdits | undefined;
  readonly own: CdiEdits;
}

export interface CdiDevices {
  readonly devices: ReadonlyMap<string, CdiDevice>;
  /** Why other names, or other devices than one expects, are not there: damaged files, and names that are given twice. */
  readonly problems: readonly string[];
}

interface Found extends CdiDevice {
  readonly priority: number;
}

/**
 * Reads the CDI files of some folders. A name in a later folder wins over the same in an earlier one;
 * one that is in two files of the same folder stands for nothing. YAML includes JSON.
 */
export async function readCdiFiles(folders: readonly string[]): Promise<CdiDevices> {
  const found = new Map<string, Found[]>();
  const problems: string[] = [];
  for (const [priority, folder] of folders.entries()) {
    for (const file of await filesOf(folder)) {
      const spec = await readSpec(file, problems);
      for (const { name, containerEdits } of spec?.devices ?? []) {
        const qualified = `${spec?.kind ?? ''}=${name}`;
        const device = { file, shared: spec?.containerEdits, own: containerEdits, priority };
        found.set(qualified, [...(found.get(qualified) ?? []), device]);
      }
    }
  }
  const devices = new Map<string, CdiDevice>();
  for (const [name, candidates] of found) {
    const priority = Math.max(...candidates.map((candidate) => candidate.priority));
    const [device, ...twins] = candidates.filter((candidate) => candidate.priority === priority);
    if (device !== undefined && twins.length === 0) devices.set(name, device);
    else problems.push(`"${name}" is both in ${candidates.map(({ file }) => file).join(' and in ')}`);
  }
  return { devices, problems };
}

async function filesOf(folder: string): Promise<readonly string[]> {
  try {
    const names = (await readdir(folder)).sort((a, b) => a.localeCompare(b));
    return names.filter((name) => ['.json', '.yaml'].includes(extname(name))).map((name) => join(folder, name));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Others are not kept from their devices by a file that is damaged. */
async function readSpec(file: string, problems: string[]): Promise<CdiSpec | undefined> {
  let value: unknown;
  try {
    value = parse(await readFile(file, 'utf8'));
  } catch (error) {
    problems.push(`${file}: ${messageOf(error)}`);
    return undefined;
  }
  const result = cdiSpec.safeParse(value);
  if (result.success) return result.data;
  problems.push(`${file}: ${z.prettifyError(result.error).replaceAll(/\s+/g, ' ')}`);
  return undefined;
}
