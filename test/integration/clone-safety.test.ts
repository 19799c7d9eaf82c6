import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { TestNode, type Pod } from '../harness/node.ts';

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
  readonly origin: string;
  readonly requestedHostname: string;
  readonly hostname: string;
  readonly random: string;
  readonly uuid: string;
  readonly bootId: string;
  readonly machineId: string;
  readonly mac: string;
  /** By how much the guest's clock is ahead of the host's: not less and not more than that. */
  readonly clockAheadMs: readonly [number, number];
}

const readings = 5;
/** File systems stamp with the time of the last tick; 4 ms on the usual kernel. */
const tickMs = 10;

const script = `
  for n in $(seq ${String(readings)}); do : > /tmp/before$n; : > /shared/$n; : > /tmp/after$n; done
  head -c 32 /dev/urandom | od -An -tx1 | tr -d " \\n"; echo
  cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id
  hostname
  cat /sys/class/net/eth0/address
  for n in $(seq ${String(readings)}); do stat -c %y /tmp/before$n /tmp/after$n; done`;

/** Of busybox's stat: 2026-01-31 12:00:00.123456789 +0000 */
function stampMs(line: string): number {
  const [, day, time, zone] = /^(\S+) (\d\d:\d\d:\d\d\.\d{3})\d* ([+-]\d{4})$/.exec(line) ?? [];
  if (day === undefined || time === undefined || zone === undefined) throw new Error(`not a time stamp: "${line}"`);
  return Date.parse(`${day}T${time}${zone.slice(0, 3)}:${zone.slice(3)}`);
}

/**
 * A file in the volume is stamped by the host, the files made right before and after it by the guest. Each
 * such reading bounds the difference of the clocks; together they bound it as the narrowest does, or better.
 */
async function clockAhead(shared: string, stamps: readonly string[]): Promise<readonly [number, number]> {
  let [least, most] = [-Infinity, Infinity];
  for (let reading = 0; reading < readings; reading += 1) {
    const [before = NaN, after = NaN] = stamps.slice(2 * reading, 2 * reading + 2).map(stampMs);
    const { mtimeMs } = await stat(join(shared, String(reading + 1)));
    least = Math.max(least, before - (mtimeMs + tickMs));
    most = Math.min(most, after + tickMs - mtimeMs);
  }
  return [least, most];
}

async function identify(pod: Pod, name: string): Promise<Identity> {
  const shared = join(node.daemon.scratch, name);
  await mkdir(shared);
  const id = await node.startContainer(pod, {
    config: { mounts: [{ host_path: shared, container_path: '/shared' }] },
  });
  const lines = (await node.sh(id, script)).split('\n');
  const [random = '', uuid = '', bootId = '', hostname = '', mac = '', ...stamps] = lines;
  const { origin, machineId } = await node.vmOf(pod);
  const clockAheadMs = await clockAhead(shared, stamps);
  return { origin, requestedHostname: name, hostname, random, uuid, bootId, machineId, mac, clockAheadMs };
}

test('no two clones share random numbers, ids or addresses, and clocks agree with the host', async () => {
  const found: Identity[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (next < clones) {
        next += 1;
        const name = `clone-${String(next)}`;
        const pod = await node.runPod({ name });
        found.push(await identify(pod, name));
        await node.removePod(pod);
      }
    }),
  );
  const forms = {
    random: /^[0-9a-f]{64}$/,
    uuid: /^[0-9a-f-]{36}$/,
    bootId: /^[0-9a-f-]{36}$/,
    machineId: /^[0-9a-f]{32}$/,
    mac: /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/,
  };
  for (const [key, form] of Object.entries(forms) as [keyof typeof forms, RegExp][]) {
    const values = found.map((identity) => identity[key]);
    expect(values.filter((value) => !form.test(value))).toEqual([]);
    expect({ [key]: new Set(values).size }).toEqual({ [key]: clones });
  }
  for (const { origin, hostname, requestedHostname } of found) {
    expect(hostname).toBe(requestedHostname);
    // A machine booted by itself would prove nothing.
    expect(['pool', 'clone']).toContain(origin);
  }
  expect(found.filter(({ clockAheadMs }) => clockAheadMs.some((ms) => Math.abs(ms) > 50))).toEqual([]);
}, 300_000);
