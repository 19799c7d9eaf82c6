import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { TestNode, type Pod } from '../harness/node.ts';
import { waitForPool } from '../harness/pool.ts';

/** Pods outlive the daemon, whichever way it ends, and nothing they wrote is lost or repeated. */
let node: TestNode;

beforeAll(async () => {
  node = await TestNode.start();
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

/** Counts until it is told to stop, then says how far it came. */
const counter = [
  'sh',
  '-c',
  'echo $$ > /tmp/pid; trap stop=1 TERM; i=0; while [ -z "$stop" ]; do echo $i; i=$((i+1)); usleep 10000; done; echo total $i',
];

test('twenty times SIGKILL: every line once, in order, up to the last, and exec goes on', async () => {
  const writers: { readonly pod: Pod; readonly id: string }[] = [];
  for (let n = 0; n < 5; n += 1) {
    const pod = await node.runPod();
    writers.push({ pod, id: await node.startContainer(pod, { command: counter }) });
  }
  for (let round = 0; round < 19; round += 1) {
    await delay(Math.random() * 400);
    await node.daemon.kill();
    await node.daemon.start();
  }
  for (const { pod, id } of writers) {
    expect((await node.podStatus(pod)).state).toBe('SANDBOX_READY');
    expect(await node.sh(id, 'echo still here')).toBe('still here');
  }
  // The last words and the exit fall into the time without a daemon, or right before it.
  for (const { id } of writers) await node.exec(id, 'sh', '-c', 'kill $(cat /tmp/pid)');
  await node.daemon.kill();
  await node.daemon.start();
  for (const { pod, id } of writers) {
    expect(await node.waitExited(id)).toMatchObject({ exit_code: 0, reason: 'Completed' });
    const lines = (await node.logLines(id)).map(({ tag, content }) => `${tag} ${content}`);
    const total = lines.length - 1;
    expect(total).toBeGreaterThan(100);
    expect(lines).toEqual([...Array.from({ length: total }, (_, n) => `F ${String(n)}`), `F total ${String(total)}`]);
    await node.removePod(pod);
  }
}, 600_000);

describe('SIGTERM', () => {
  test('ends the daemon within 5 s and leaves pods alone; the next one sees what happened meanwhile', async () => {
    const pod = await node.runPod();
    const goesOn = await node.startContainer(pod, { command: counter });
    const ends = await node.startContainer(pod, { command: ['sh', '-c', 'sleep 2; echo bye; exit 6'] });
    const held = await node.createContainer(pod);
    const before = await node.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: pod.id, verbose: true });
    const { pid } = JSON.parse(before.info['info'] ?? '{}') as { pid: number };
    const started = performance.now();
    expect(await node.daemon.stop()).toBe('exit code 0');
    expect(performance.now() - started).toBeLessThan(5_000);
    expect(process.kill(pid, 0)).toBe(true);
    await delay(3_000);
    await node.daemon.start();
    expect(await node.waitExited(ends)).toMatchObject({ exit_code: 6 });
    expect((await node.logLines(ends)).map(({ content }) => content)).toEqual(['bye']);
    expect((await node.status(goesOn)).state).toBe('CONTAINER_RUNNING');
    await node.daemon.cri.call('StartContainer', { container_id: held });
    expect(await node.sh(held, 'echo held')).toBe('held');
    await node.removePod(pod);
  });
});

test('a VM that died while no daemon was there is NOTREADY, its containers EXITED', async () => {
  const pod = await node.runPod();
  const id = await node.startContainer(pod);
  const { info } = await node.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: pod.id, verbose: true });
  const { pid } = JSON.parse(info['info'] ?? '{}') as { pid: number };
  await node.daemon.kill();
  process.kill(pid, 'SIGKILL');
  await node.daemon.start();
  expect((await node.podStatus(pod)).state).toBe('SANDBOX_NOTREADY');
  expect(await node.status(id)).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: 255 });
  await node.removePod(pod);
});

interface VmTrace {
  readonly vmId: string;
  readonly createdAt: number;
  readonly pid: number | undefined;
}

/** VMs with a folder in the state directory; without a record they count as old. */
async function vmTraces(): Promise<VmTrace[]> {
  const folder = join(node.daemon.state, 'vms');
  return await Promise.all(
    (await readdir(folder)).map(async (vmId) => {
      const text = await readFile(join(folder, vmId, 'vm.json'), 'utf8').catch(() => '{}');
      const record = JSON.parse(text) as { readonly createdAt?: string; readonly process?: { readonly pid: number } };
      return { vmId, createdAt: Date.parse(record.createdAt ?? '1970-01-01'), pid: record.process?.pid };
    }),
  );
}

/** What is there of VMs that were made before `since`, of networks and of addresses; one line each. */
async function remainsFrom(since: number): Promise<string[]> {
  const { state, root } = node.daemon;
  // In reverse: a new VM gets its folder first, its network is recorded next, and its address comes last.
  const leases = await node.network.leaseOwners();
  const results = await networkRecords();
  const others = {
    'network namespace': await readdir(join(state, 'netns')),
    disks: await readdir(join(root, 'vms')),
  };
  const vms = await vmTraces();
  const fresh = new Set(vms.flatMap(({ vmId, createdAt }) => (createdAt >= since ? [vmId] : [])));
  const isFresh = (netns: string): boolean => [...fresh].some((vmId) => netns.endsWith(vmId));
  return [
    ...vms.flatMap(({ vmId }) => (fresh.has(vmId) ? [] : [`vm: ${vmId}`])),
    ...Object.entries(others).flatMap(([kind, ids]) =>
      ids.flatMap((vmId) => (fresh.has(vmId) ? [] : [`${kind}: ${vmId}`])),
    ),
    ...results.flatMap(({ netns, sandboxId }) => (isFresh(netns) ? [] : [`CNI result: ${sandboxId}`])),
    ...leases.flatMap(({ address, owner }) => {
      const result = results.find(({ sandboxId }) => sandboxId === owner);
      return result !== undefined && isFresh(result.netns) ? [] : [`address: ${address}`];
    }),
  ];
}

async function networkRecords(): Promise<{ readonly netns: string; readonly sandboxId: string }[]> {
  const folder = join(node.daemon.state, 'cni/results');
  const texts = await Promise.all(
    (await readdir(folder).catch(() => []))
      .filter((name) => name.endsWith('.json'))
      .map((name) => readFile(join(folder, name), 'utf8')),
  );
  return texts.map((text) => JSON.parse(text) as { readonly netns: string; readonly sandboxId: string });
}

/** A zombie, whose command line is empty, holds nothing and is its parent's business. */
async function isAlive({ pid }: VmTrace): Promise<boolean> {
  if (pid === undefined) return false;
  return (await readFile(`/proc/${String(pid)}/cmdline`, 'utf8').catch(() => '')) !== '';
}

test('a RunPodSandbox that the daemon did not survive leaves a whole pod or nothing', async () => {
  const outcomes: string[] = [];
  // With a full pool the whole call takes some 200 ms on an idle machine; without, a clone is started first.
  for (const { ms, pooled } of [
    ...[10, 40, 80, 150].map((moment) => ({ ms: moment, pooled: true })),
    ...[40, 150, 400, 800].map((moment) => ({ ms: moment, pooled: false })),
  ]) {
    if (pooled) expect(await waitForPool(node.daemon.cri, { idle: 1 })).toBe(true);
    const call = node.runPod({ name: 'torn' }).then(
      () => 'finished',
      () => 'torn',
    );
    await delay(ms);
    await node.daemon.kill();
    const outcome = await call;
    outcomes.push(outcome);
    const killedAt = Date.now();
    const before = await vmTraces();
    await node.daemon.start();
    const { items } = await node.daemon.cri.call('ListPodSandbox', {});
    // An answer is a promise. Without one the pod is gone, or, where the end fell between the last record and
    // the answer, whole: never in between.
    if (outcome === 'finished') expect(items).toHaveLength(1);
    expect(items.map(({ state }) => state)).toEqual(items.map(() => 'SANDBOX_READY'));
    for (const { id } of items) {
      const pod = { id, config: {} };
      expect(await node.sh(await node.startContainer(pod), 'echo whole')).toBe('whole');
      await node.removePod(pod);
    }
    expect(await remainsFrom(killedAt)).toEqual([]);
    const namespaces = await readdir('/run/netns');
    expect(before.filter(({ vmId }) => namespaces.includes(`kelyfos-${vmId}`))).toEqual([]);
    expect(await Promise.all(before.map(isAlive))).not.toContain(true);
    // The name is free again, too.
    await node.removePod(await node.runPod({ name: 'torn' }));
  }
  expect(outcomes).toContain('torn');
}, 300_000);
