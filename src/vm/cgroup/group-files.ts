import { readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError, hasCode } from '../../platform/errors.ts';

/** The kernel needs a moment to forget the last task of a group. */
const removeAttempts = 40;
const removePauseMs = 25;

export async function processesOf(folder: string): Promise<number[]> {
  try {
    const text = await readFile(join(folder, 'cgroup.procs'), 'utf8');
    return text
      .split('\n')
      .filter((line) => /^[1-9]\d*$/.test(line))
      .map(Number);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENODEV')) return [];
    throw error;
  }
}

/** Undefined if the group has no such file: the controller is not there. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Files of a group are never made, only written. */
export async function writeGroupFile(path: string, value: string): Promise<void> {
  await writeFile(path, value, { flag: 'r+' });
}

export async function writeIfThere(path: string, value: string): Promise<void> {
  try {
    await writeGroupFile(path, value);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'EACCES', 'EPERM')) throw error;
  }
}

/** Idempotent. Fails while a process is in it. */
export async function removeGroup(folder: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await rmdir(folder);
      return;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return;
      if (!hasCode(error, 'EBUSY') || attempt === removeAttempts) {
        throw new AppError('internal', `remove cgroup ${folder}`, { cause: error });
      }
    }
    await delay(removePauseMs);
  }
}

/** False if somebody else is in it still. */
export async function removeUnusedGroup(folder: string): Promise<boolean> {
  try {
    await rmdir(folder);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return true;
    if (hasCode(error, 'EBUSY', 'ENOTEMPTY')) return false;
    throw new AppError('internal', `remove cgroup ${folder}`, { cause: error });
  }
}
