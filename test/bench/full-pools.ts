import { setTimeout as delay } from 'node:timers/promises';
import type { CriClient } from '../../src/cri/client.ts';
import { poolStates } from './verbose.ts';

/** Seldom: each look costs the daemon something, while it makes a clone. */
const pauseMs = 250;
/** Lets what came after the last clone come to rest. */
const restMs = 250;
const timeoutMs = 300_000;

/** Returns when each pool is as big as it should be, and so nothing is made in the background. */
export async function fullPools(cri: CriClient): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const pools = await poolStates(cri);
    if (pools.every(({ idle, outdated, size }) => outdated === 0 && idle >= size)) break;
    if (performance.now() > deadline) throw new Error(`the pools do not fill: ${JSON.stringify(pools)}`);
    await delay(pauseMs);
  }
  await delay(restMs);
}
