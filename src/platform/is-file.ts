import { stat } from 'node:fs/promises';
import { hasCode } from './errors.ts';

/** Whether there is an ordinary file at this path. */
export async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}
