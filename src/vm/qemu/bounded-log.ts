import { stat, truncate } from 'node:fs/promises';
import { setInterval } from 'node:timers';
import { hasCode, messageOf } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';

/** A guest that fills its console at full speed writes some megabytes in between. */
const lookEveryMs = 10_000;

/**
 * Empties a log that another process appends to whenever it has grown past `maxBytes`. The console of a guest is
 * of use only for what it said last, and would otherwise fill the file system of the state directory.
 */
export function boundLog(path: string, maxBytes: number, log: Log, everyMs = lookEveryMs): Disposable {
  const look = async (): Promise<void> => {
    if ((await stat(path)).size > maxBytes) await truncate(path);
  };
  const timer = setInterval(() => {
    look().catch((error: unknown) => {
      if (!hasCode(error, 'ENOENT')) log.warn({ path }, `cannot bound a log: ${messageOf(error)}`);
    });
  }, everyMs);
  timer.unref();
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer);
    },
  };
}
