/** 64-bit integers as numbers while they are exact, as text beyond. */
function plainValue(_key: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value instanceof Map ? Object.fromEntries(value) : value;
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)
    ? Number(value)
    : String(value);
}

/** The `info` map of a verbose answer: crictl takes a value that begins with "{" for a whole JSON object. */
export function verboseInfo(entries: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(entries)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value, plainValue)]),
  );
}
