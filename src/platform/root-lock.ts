import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from './errors.ts';

/** Exclusive use of a folder by one process. */
export interface RootLock {
  release(): void;
}

/** flock(1) says with this that somebody else holds the lock. */
const conflictCode = 75;

/**
 * Takes a folder for this process alone. The lock is flock(2) on `daemon.lock`: it belongs to the
 * open file, so that the kernel gives it back whichever way the process ends, SIGKILL included.
 * Node cannot call flock, so flock(1) does it on a descriptor it inherits; the lock stays with ours
 * when it is gone. Children do not inherit it, node opens files close-on-exec.
 */
export async function lockRoot(root: string): Promise<RootLock> {
  await mkdir(root, { recursive: true, mode: 0o711 });
  const path = join(root, 'daemon.lock');
  // Not a FileHandle: that is closed when it is collected.
  const fd = openSync(path, 'a+', 0o600);
  try {
    // execa hands on no descriptors but the first three of our own. The lock is taken or refused at once.
    const args = ['--exclusive', '--nonblock', '--conflict-exit-code', String(conflictCode), '0'];
    const flock = spawnSync('flock', args, { stdio: [fd, 'ignore', 'pipe'], timeout: 5_000, encoding: 'utf8' });
    if (flock.status === conflictCode) {
      const holder = (await readFile(path, 'utf8')).trim();
      const who = holder === '' ? '' : ` (pid ${holder})`;
      throw new AppError('failed-precondition', `${root} is in use by another daemon${who}`);
    }
    if (flock.status !== 0) {
      const why = flock.error?.message ?? flock.stderr.trim();
      throw new AppError('internal', `cannot lock ${path}: ${why}`, { cause: flock.error });
    }
    // For the message above only; who holds the lock is the kernel's business.
    await writeFile(path, `${String(process.pid)}\n`);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return {
    release: () => {
      closeSync(fd);
    },
  };
}
