const sizeUnits: Readonly<Record<string, bigint>> = {
  B: 1n,
  KiB: 1024n,
  MiB: 1024n ** 2n,
  GiB: 1024n ** 3n,
  TiB: 1024n ** 4n,
  kB: 1000n,
  MB: 1000n ** 2n,
  GB: 1000n ** 3n,
  TB: 1000n ** 4n,
};
const durationUnitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Bytes of a size such as "2GiB", "512 MiB" or "1.5GiB"; undefined when it is none. A unit is required. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+)(?:\.(\d{1,3}))? ?([A-Za-z]+)$/.exec(text);
  const unit = sizeUnits[match?.[3] ?? ''];
  if (match?.[1] === undefined || unit === undefined) return undefined;
  const thousandths = BigInt(match[1]) * 1000n + BigInt((match[2] ?? '').padEnd(3, '0'));
  const bytes = Number((thousandths * unit) / 1000n);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Milliseconds of a duration such as "500ms", "90s", "10m" or "1h"; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d{1,3})?) ?(ms|s|m|h)$/.exec(text);
  const unit = durationUnitsMs[match?.[2] ?? ''];
  if (match?.[1] === undefined || unit === undefined) return undefined;
  const ms = Math.round(Number(match[1]) * unit);
  return Number.isSafeInteger(ms) ? ms : undefined;
}
