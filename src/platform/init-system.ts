import { stat } from 'node:fs/promises';
import { hasCode } from './errors.ts';

/** Whether systemd is the init of this host, and so the one who manages cgroups; the test of sd_booted(3). */
export async function runsSystemd(marker = '/run/systemd/system'): Promise<boolean> {
  try {
    return (await stat(marker)).isDirectory();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}
