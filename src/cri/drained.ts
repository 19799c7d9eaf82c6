/** Returns when a stream that is written to has room for more, or nobody wants any. */
export async function drained(
  call: { once(event: 'drain', done: () => void): unknown },
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted) return;
  const turn = Promise.withResolvers<undefined>();
  const done = (): void => {
    turn.resolve(undefined);
  };
  call.once('drain', done);
  signal.addEventListener('abort', done, { once: true });
  await turn.promise;
  signal.removeEventListener('abort', done);
}
