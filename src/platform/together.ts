/**
 * Waits for all of the work. When a part of it fails the others are told to stop, and it ends with that first error
 * once all have ended.
 */
export async function together<T extends readonly unknown[]>(
  stop: AbortController,
  work: { readonly [K in keyof T]: Promise<T[K]> },
): Promise<T> {
  const failures: unknown[] = [];
  const guarded = work.map(async (part) => {
    try {
      await part;
    } catch (error) {
      failures.push(error);
      stop.abort(error);
    }
  });
  await Promise.all(guarded);
  if (failures.length > 0) throw failures[0];
  return await Promise.all(work);
}
