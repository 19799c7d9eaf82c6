import type { Writable } from 'node:stream';

/**
 * Hands data to a client and resolves when it takes more; at once when it wants none or never will,
 * and when the signal aborts, which whoever produces the data notices by itself.
 */
export async function handOver(client: Writable | undefined, data: Uint8Array, signal: AbortSignal): Promise<void> {
  if (client === undefined || data.length === 0 || client.destroyed || client.writableEnded || signal.aborted) return;
  if (client.write(data)) return;
  const taken = Promise.withResolvers<undefined>();
  const done = (): void => {
    taken.resolve(undefined);
  };
  for (const event of ['drain', 'close'] as const) client.once(event, done);
  signal.addEventListener('abort', done, { once: true });
  await taken.promise;
  for (const event of ['drain', 'close'] as const) client.off(event, done);
  signal.removeEventListener('abort', done);
}
