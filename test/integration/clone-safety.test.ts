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
  readonly machineId: string;
  readonly hostname: string;
  readonly mac: string;
  readonly clockOffMs: number;
}

async function claimOne(index: number): Promise<Identity> {
  const pod = await node.runPod({ name: `clone-${String(index)}` });
  const id = await node.startContainer(pod);
  // One exec, so that the clock is read in the middle of a short interval.
  const script =
    'date +%s%N | cut -c1-19; head -c 32 /dev/urandom | od -An -tx1 | tr -d " \\n"; echo; cat /proc/sys/kernel/random/uuid; hostname; cat /sys/class/net/eth0/address';
  await node.sh(id, 'true');
  const before = Date.now();
  const [time = '', random = '', uuid = '', hostname = '', mac = ''] = (await node.sh(id, script)).split('\n');
  const after = Date.now();
  const guestMs = Number(BigInt(time.padEnd(19, '0')) / 1_000_000n);
  const clockOffMs = guestMs < before ? before - guestMs : Math.max(0, guestMs - after);
  const { info } = await node.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: pod.id, verbose: true });
  const { machineId } = JSON.parse(info['info'] ?? '{}') as { machineId?: string };
  await node.removePod(pod);
  return { random, uuid, hostname, mac, machineId: machineId ?? '', clockOffMs };
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
