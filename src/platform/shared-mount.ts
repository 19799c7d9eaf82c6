import { execa } from 'execa';
import { wrap } from './errors.ts';
import { mountPoints } from './mount-table.ts';

const mountTimeoutMs = 10_000;

/**
 * Makes a folder a mount point with shared propagation: what is mounted below it later appears in
 * the jails that have a part of it, and nothing of what a jail does comes back. Idempotent.
 */
export async function makeSharedMount(folder: string): Promise<void> {
  try {
    if (!(await mountPoints()).includes(folder))
      await execa('mount', ['--bind', folder, folder], { timeout: mountTimeoutMs });
    await execa('mount', ['--make-shared', folder], { timeout: mountTimeoutMs });
  } catch (error) {
    throw wrap(error, `make ${folder} a shared mount`);
  }
}
