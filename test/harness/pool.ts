import { setTimeout as delay } from 'node:timers/promises';
import type { CriClient } from '../../src/cri/client.ts';

interface PoolState {
  readonly className: string;
  readonly idle: number;
  readonly outdated: number;
  readonly size: number;
}

async function pools(cri: CriClient): Promise<readonly PoolState[]> {
  const { info } = await cri.call('Status', { verbose: true });
  return (JSON.parse(info['pools'] ?? '{"classes":[]}') as { readonly classes: readonly PoolState[] }).classes;
}

/** Waits until the pool of a VM class holds as many VMs as it should, or `idle` of them, none out of date; false after `timeoutMs`. */
export async function waitForPool(
  cri: CriClient,
  options: { readonly className?: string; readonly idle?: number; readonly timeoutMs?: number } = {},
): Promise<boolean> {
  const { className = 'default', idle, timeoutMs = 120_000 } = options;
  const deadline = Date.now() + timeoutMs;
  while (Date.now() < deadline) {
    const pool = (await pools(cri)).find((candidate) => candidate.className === className);
    if (pool?.outdated === 0 && pool.idle >= (idle ?? pool.size)) return true;
    await delay(50);
  }
  return false;
}
