import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Leaves the figures of a benchmark for whoever wants to look at them again. */
export async function writeResults(file: string, document: Readonly<Record<string, unknown>>): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify(document, undefined, 2)}\n`);
}
