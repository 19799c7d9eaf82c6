import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { fetchText, hostAddress } from '../harness/http.ts';
import { TestNode, type Pod } from '../harness/node.ts';
import { waitForPool } from '../harness/pool.ts';

/** Networks of machines that wait in a pool, by real plugins: pods get them with the machine. */
let node: TestNode;
const pool = 2;
const hostPort = 28_441;

beforeAll(async () => {
  node = await TestNode.start({
    config: {
      vm: {
        classes: {
          default: { memory: '256MiB', pool, rehearse: false },
          bare: { memory: '256MiB', pool: 0 },
        },
      },
      handlers: { bare: { class: 'bare' } },
    },
  });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

async function fullPool(): Promise<void> {
  expect(await waitForPool(node.daemon.cri)).toBe(true);
}

/** Addresses that are given out, by the id that each was given to. */
async function leases(): Promise<ReadonlyMap<string, string>> {
  return new Map((await node.network.leaseOwners()).map(({ address, owner }) => [owner, address]));
}

async function stepsOf(pod: Pod): Promise<readonly string[]> {
  const { info } = await node.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: pod.id, verbose: true });
  const { startup } = JSON.parse(info['info'] ?? '{}') as {
    readonly startup: readonly { readonly steps: readonly { readonly name: string }[] }[];
  };
  return startup.flatMap(({ steps }) => steps.map(({ name }) => name));
}

async function serve(pod: Pod): Promise<void> {
  const server = await node.startContainer(pod, { command: ['httpd', '-f', '-p', '8080', '-h', '/www'] });
  await node.sh(server, 'until wget -q -O- http://127.0.0.1:8080/ > /dev/null; do usleep 20000; done');
}

test('a pod has the network, and the id, that its machine waited with, and gives the address back', async () => {
  await fullPool();
  const waiting = await leases();
  expect(waiting.size).toBe(pool);
  const pod = await node.runPod();
  const address = waiting.get(pod.id);
  expect([(await node.podStatus(pod)).network?.ip, (await node.vmOf(pod)).origin]).toEqual([address, 'pool']);
  expect((await stepsOf(pod)).filter((name) => name.startsWith('cni '))).toEqual([]);

  await serve(pod);
  expect(await fetchText(`http://${address ?? ''}:8080/`)).toContain('It works');
  const other = await node.runPod();
  const client = await node.startContainer(other);
  expect(await node.sh(client, `wget -q -O- http://${address ?? ''}:8080/`)).toContain('It works');

  for (const each of [other, pod]) await node.removePod(each);
  await fullPool();
  const left = await leases();
  expect([left.size, left.has(pod.id), left.has(other.id)]).toEqual([pool, false, false]);
});

test('a pod with a host port has it', async () => {
  await fullPool();
  const pod = await node.runPod({
    config: { port_mappings: [{ protocol: 'TCP', container_port: 8080, host_port: hostPort }] },
  });
  expect((await stepsOf(pod)).filter((name) => name.startsWith('cni '))).toEqual(['cni bridge', 'cni portmap']);
  await serve(pod);
  expect(await fetchText(`http://${hostAddress()}:${String(hostPort)}/`)).toContain('It works');
  await node.removePod(pod);
});

test('machines wait with the network that is configured now', async () => {
  await fullPool();
  const before = await leases();
  await node.network.write('05-other.conflist', node.network.conflist({ mtu: 1400 }));
  while ([...(await leases()).keys()].some((id) => before.has(id))) await delay(50);
  await fullPool();
  const pod = await node.runPod();
  const container = await node.startContainer(pod);
  expect(await node.sh(container, 'cat /sys/class/net/eth0/mtu')).toBe('1400');
  expect((await stepsOf(pod)).filter((name) => name.startsWith('cni '))).toEqual([]);
  await node.removePod(pod);
});

test('machines that wait do not keep pods from an address', async () => {
  const { plugins, ...network } = node.network.conflist() as {
    readonly plugins: readonly { readonly ipam?: object }[];
  };
  const { prefix, gateway } = node.network;
  const few = [{ subnet: `${prefix}.0/24`, rangeStart: `${prefix}.100`, rangeEnd: `${prefix}.101`, gateway }];
  const [bridge, ...others] = plugins;
  const ipam = { ...bridge?.ipam, ranges: [few] };
  await node.network.write('00-few.conflist', { ...network, plugins: [{ ...bridge, ipam }, ...others] });
  while ([...(await leases()).values()].toSorted().join(' ') !== few.map(addressesOf).join(' ')) await delay(50);

  await expect(node.runPod({ handler: 'bare' })).rejects.toThrow(/no IP addresses available/i);
  const pod = await runWhenThereIsRoom();
  expect((await node.podStatus(pod)).network?.ip).toMatch(/\.10[01]$/);
  await node.removePod(pod);
  await node.network.remove('00-few.conflist');
  // The next daemon has not met the shortage.
  await node.daemon.stop();
  await node.daemon.start();
});

function addressesOf({ rangeStart, rangeEnd }: { readonly rangeStart: string; readonly rangeEnd: string }): string {
  return `${rangeStart} ${rangeEnd}`;
}

/** As the kubelet does. */
async function runWhenThereIsRoom(): Promise<Pod> {
  for (const deadline = Date.now() + 60_000; ;) {
    try {
      return await node.runPod({ handler: 'bare' });
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await delay(200);
    }
  }
}

test('a daemon that has ended, in whichever way, has given back what nobody used', async () => {
  await fullPool();
  const pod = await node.runPod();
  await fullPool();
  const before = await leases();
  expect(before.size).toBe(pool + 1);
  await node.daemon.kill();
  expect([...(await leases()).keys()].toSorted()).toEqual([...before.keys()].toSorted());
  await node.daemon.start();
  await fullPool();
  const after = await leases();
  expect([after.size, after.get(pod.id)]).toEqual([pool + 1, before.get(pod.id)]);
  expect([...after.keys()].filter((id) => before.has(id))).toEqual([pod.id]);

  expect(await node.daemon.stop()).toBe('exit code 0');
  expect([...(await leases()).keys()]).toEqual([pod.id]);
  await node.daemon.start();
  await node.removePod(pod);
});
