import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError, hasCode } from './errors.ts';

/**
 * A process that is certainly the one we started: a pid alone may be somebody else's by now, the
 * start time (clock ticks after boot, field 22 of /proc/PID/stat) tells them apart.
 */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

/** Identity of a running process, or undefined when there is none with this pid (a zombie counts as none). */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  let stat: string;
  try {
    stat = await readFile(`/proc/${String(pid)}/stat`, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
  // The command name, in parentheses, may hold spaces and parentheses itself.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, startTime] = [fields[0], fields[19]];
  if (startTime === undefined || state === 'Z' || state === 'X') return undefined;
  return { pid, startTime };
}

export async function isAlive(process: ProcessIdentity): Promise<boolean> {
  return (await identify(process.pid))?.startTime === process.startTime;
}

/** Sends a signal if the process is still there; false when it was not. */
export async function signalProcess(target: ProcessIdentity, signal: NodeJS.Signals): Promise<boolean> {
  if (!(await isAlive(target))) return false;
  try {
    process.kill(target.pid, signal);
    return true;
  } catch (error) {
    if (hasCode(error, 'ESRCH')) return false;
    throw error;
  }
}

/** Waits until the process is gone; false when it still runs after `timeoutMs`. Also for processes that are not ours to wait for. */
export async function waitGone(target: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  for (let pauseMs = 2; await isAlive(target); pauseMs = Math.min(pauseMs * 2, 50)) {
    if (Date.now() >= deadline) return false;
    await delay(pauseMs);
  }
  return true;
}

/** SIGTERM, then SIGKILL after `graceMs`. */
export async function terminate(target: ProcessIdentity, graceMs: number): Promise<void> {
  if (!(await signalProcess(target, 'SIGTERM'))) return;
  if (await waitGone(target, graceMs)) return;
  await signalProcess(target, 'SIGKILL');
  if (!(await waitGone(target, 5_000))) {
    throw new AppError('internal', `process ${String(target.pid)} survives SIGKILL`);
  }
}
