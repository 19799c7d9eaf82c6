/**
 * Entries in one message of a Stream* call. Labels and annotations of an object are below 512 KiB
 * together where Kubernetes made it, and usually below 4 KiB; a message has to stay below 16 MiB.
 */
const batchSize = 30;

/** A list cut into messages; none when it is empty. */
export function* batches<T>(list: readonly T[], size = batchSize): Generator<readonly T[]> {
  for (let start = 0; start < list.length; start += size) yield list.slice(start, start + size);
}
