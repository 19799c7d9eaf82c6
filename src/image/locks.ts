import { abortError } from '../platform/errors.ts';
import type { KeyedMutex } from '../platform/keyed-mutex.ts';

/**
 * Runs `work` while holding the locks of all keys. They are taken in the order of the alphabet, so
 * that two callers never wait for each other. A caller whose signal fires while it waits is let go
 * at once; its place in the queue comes to nothing.
 */
export async function withLocks<T>(
  mutex: KeyedMutex,
  keys: readonly string[],
  doing: string,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  let started = false;
  const take = async (rest: readonly string[]): Promise<T> => {
    if (signal.aborted) throw abortError(signal, doing);
    const [key, ...others] = rest;
    if (key !== undefined) return await mutex.run(key, () => take(others));
    started = true;
    return await work();
  };
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const giveUp = (): void => {
    if (!started) reject(abortError(signal, doing));
  };
  signal.addEventListener('abort', giveUp, { once: true });
  take([...new Set(keys)].sort()).then(resolve, reject);
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}
