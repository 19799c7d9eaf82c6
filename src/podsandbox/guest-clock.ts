import type { Log } from '../platform/log.ts';
import type { Guest } from './ports.ts';

/** How far a guest's clock may be off the host's when its pod begins. Half of what is promised. */
const toleranceMs = 25;
const attempts = 5;

/**
 * Sees to it that the guest's clock agrees with the host's. It was set to a time that took some way to
 * get there: nothing on an idle node, tenths of a second on one that starts many pods at once.
 * `answeredNs` is what the guest's clock said when it answered, a moment ago.
 */
export async function alignClock(
  guest: Pick<Guest, 'hello' | 'adjustClock'>,
  answeredNs: bigint,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  // The answer took some way, too, so that a good clock looks slow and never fast.
  const behindMs = Date.now() - toMs(answeredNs);
  if (behindMs >= -toleranceMs && behindMs <= toleranceMs) return;
  let lastOffMs = behindMs;
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const before = Date.now();
    const { clockNs } = await guest.hello(signal);
    const after = Date.now();
    // The guest read its clock somewhere between; the middle is off by half the way at most.
    const offMs = toMs(clockNs) - (before + after) / 2;
    const uncertainMs = (after - before) / 2;
    if (Math.abs(offMs) + uncertainMs <= toleranceMs) return;
    lastOffMs = offMs;
    if (Math.abs(offMs) > uncertainMs) await guest.adjustClock(-BigInt(Math.round(offMs * 1e6)), signal);
  }
  log.warn(
    { offMs: Math.round(lastOffMs) },
    'the guest answers too slowly to say whether its clock agrees with the host',
  );
}

function toMs(ns: bigint): number {
  return Number(ns / 1000n) / 1000;
}
