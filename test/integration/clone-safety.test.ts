import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { TestNode } from '../harness/node.ts';

/** Clones of one template are different machines: 100 of them, every one through a whole claim. */
const clones = 100;
const atOnce = 4;

let node: TestNode;

beforeAll(async () => {
  node = await TestNode.start({ config: { vm: { classes: { default: { pool: 4 } } } } });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

interface Identity {
  readonly random: string;
  readonly uuid: string;
  readonly hostname: string;
  readonly mac: string;
  readonly clockOffMs: number;
}

async function claimOne(index: number): Promise<Identity> {
  const pod = await node.runPod({ name: `clone-${String(index)}` });
  const id = await node.createContainer(pod);
  const before = Date.now();
  await node.daemon.cri.call('StartContainer', { container_id: id });
  const after = Date.now();
  // When the program was executed, by the guest's clock.
  const startedMs = Number(BigInt((await node.status(id)).started_at) / 1_000_000n);
  const clockOffMs = Math.max(0, before - startedMs, startedMs - after);
  const script =
    'head -c 32 /dev/urandom | od -An -tx1 | tr -d " \\n"; echo; cat /proc/sys/kernel/random/uuid; hostname; cat /sys/class/net/eth0/address';
  const [random = '', uuid = '', hostname = '', mac = ''] = (await node.sh(id, script)).split('\n');
  await node.removePod(pod);
  return { random, uuid, hostname, mac, clockOffMs };
}

test('no two clones share random numbers, ids or addresses, and clocks agree with the host', async () => {
  const found: Identity[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (next < clones) {
        next += 1;
        found.push(await claimOne(next));
      }
    }),
  );
  for (const key of ['random', 'uuid', 'hostname', 'mac'] as const) {
    expect(new Set(found.map((identity) => identity[key])).size).toBe(clones);
  }
  expect(Math.max(...found.map(({ clockOffMs }) => clockOffMs))).toBeLessThanOrEqual(50);
}, 900_000);
