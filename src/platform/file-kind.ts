import { stat } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { hasCode } from './errors.ts';

/** Whether there is an ordinary file at this path, links followed. */
export async function isFile(path: string): Promise<boolean> {
  return (await find(path))?.isFile() ?? false;
}

/** Whether there is a folder at this path, links followed. */
export async function isFolder(path: string): Promise<boolean> {
  return (await find(path))?.isDirectory() ?? false;
}

async function find(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
