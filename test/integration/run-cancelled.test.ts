import { glob, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { TestNode, type Pod } from '../harness/node.ts';
import { waitForPool } from '../harness/pool.ts';

/** A RunPodSandbox whose caller goes away leaves nothing, at whatever moment that was. */
let node: TestNode;
const poolSize = 1;
/** From before the claim to about the end, from a pool and by a clone. */
const momentsMs = [0, 5, 15, 40, 80, 160, 320];

beforeAll(async () => {
  node = await TestNode.start({ config: { vm: { classes: { default: { pool: poolSize } } } } });
  expect(await waitForPool(node.daemon.cri)).toBe(true);
}, 180_000);

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

/** What the host has of pods: VMs, their namespaces, results and addresses of the network. */
async function traces(): Promise<Readonly<Record<string, unknown>>> {
  const { root, state } = node.daemon;
  const vms = await namesIn(join(state, 'vms'));
  const namespaces = (await namesIn('/run/netns')).filter((name) => vms.some((vm) => name.endsWith(vm)));
  const leases: string[] = [];
  for await (const file of glob('**/10.*', { cwd: join(node.network.confDir, '..', 'ipam') })) leases.push(file);
  return {
    vms: vms.length,
    disks: (await namesIn(join(root, 'vms'))).length,
    namespaces: namespaces.length,
    markers: (await namesIn(join(state, 'netns'))).length,
    results: (await namesIn(join(state, 'cni', 'results'))).length,
    leases: leases.length,
  };
}

const pooled = {
  vms: poolSize,
  disks: poolSize,
  namespaces: poolSize,
  markers: poolSize,
  // Made ahead, for the pods that will get the machines.
  results: poolSize,
  leases: poolSize,
};

/** The daemon cleans up on its own time, and refills its pool. */
async function expectOnlyThePool(): Promise<void> {
  for (const deadline = Date.now() + 60_000; ;) {
    await waitForPool(node.daemon.cri);
    const found = await traces();
    if (JSON.stringify(found) === JSON.stringify(pooled)) return;
    if (Date.now() > deadline) expect(found).toEqual(pooled);
    await delay(100);
  }
}

const config = {
  metadata: { name: 'again', uid: 'uid-again', namespace: 'test', attempt: 0 },
  hostname: 'again',
  linux: {},
};

/** Runs the pod and goes away; true when the answer was faster. */
async function runAndLeave(afterMs: number, how: 'cancelled' | 'deadline'): Promise<boolean> {
  const options = how === 'cancelled' ? { signal: AbortSignal.timeout(afterMs) } : { timeoutMs: Math.max(afterMs, 1) };
  const call = node.daemon.cri.call('RunPodSandbox', { config }, options).then(
    () => true,
    (error: unknown) => {
      expect(error).toMatchObject({ code: how === 'cancelled' ? 1 : 4 });
      return false;
    },
  );
  return call;
}

async function removeAgain(): Promise<void> {
  const { items } = await node.daemon.cri.call('ListPodSandbox', {});
  for (const { id } of items) await node.removePod({ id, config } satisfies Pod);
}

test.each(['cancelled', 'deadline'] as const)(
  '%s at several moments: nothing of it stays, and the same pod can be run',
  async (how) => {
    let left = 0;
    for (const moment of momentsMs) {
      if (await runAndLeave(moment, how)) {
        await removeAgain();
        continue;
      }
      left += 1;
      // Not a status, but the next call of this name waits for the end of the undoing.
      const { pod_sandbox_id: id } = await node.daemon.cri.call('RunPodSandbox', { config });
      const { items } = await node.daemon.cri.call('ListPodSandbox', {});
      expect(items.map((item) => [item.id, item.state])).toEqual([[id, 'SANDBOX_READY']]);
      await node.removePod({ id, config });
    }
    expect(left).toBeGreaterThanOrEqual(3);
    expect((await node.daemon.cri.call('ListPodSandbox', {})).items).toEqual([]);
    await expectOnlyThePool();
  },
  300_000,
);

test('many at once that all go away', async () => {
  const calls = [0, 50, 100, 200, 400].map(async (moment, index) => {
    const own = { ...config, metadata: { ...config.metadata, name: `many${String(index)}` } };
    const { cri } = node.daemon;
    await cri.call('RunPodSandbox', { config: own }, { signal: AbortSignal.timeout(moment) }).catch(() => undefined);
  });
  await Promise.all(calls);
  await delay(1_000);
  await removeAgain();
  await expectOnlyThePool();
  const errors = (await readFile(join(node.daemon.folder, 'daemon.log'), 'utf8'))
    .split('\n')
    .filter((line) => line.includes('could not be cleaned up') || line.includes('left something behind'));
  expect(errors).toEqual([]);
}, 180_000);
