import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { TestNode, type Pod } from '../harness/node.ts';

/** Sizes of machines: by the handler of a pod, and by what the pod asks for beyond it. */
let node: TestNode;
const mebibyte = 1024 ** 2;

beforeAll(async () => {
  node = await TestNode.start({
    config: {
      vm: {
        classes: {
          default: { memory: '512MiB', pool: 0 },
          wide: { memory: '768MiB', vcpus: 2, template: false },
        },
      },
      handlers: { 'kelyfos-wide': { class: 'wide' } },
    },
  });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

interface Seen {
  readonly origin: string;
  readonly vcpus: number;
  readonly memoryMiB: number;
}

/** The machine as a container sees it. */
async function machineOf(pod: Pod): Promise<Seen> {
  const container = await node.startContainer(pod);
  const [vcpus, kilobytes] = (
    await node.sh(
      container,
      'grep -c ^processor /proc/cpuinfo; sed -n "s/^MemTotal: *\\([0-9]*\\) kB/\\1/p" /proc/meminfo',
    )
  ).split('\n');
  const { origin } = await node.vmOf(pod);
  return { origin, vcpus: Number(vcpus), memoryMiB: Math.round(Number(kilobytes) / 1024) };
}

/** The kernel keeps some of a machine's memory to itself. */
function expectMemory(seen: Seen, memoryMiB: number): void {
  expect(seen.memoryMiB).toBeLessThanOrEqual(memoryMiB);
  expect(seen.memoryMiB).toBeGreaterThan(memoryMiB * 0.8 - 32);
}

test('a pod without a handler gets the default class, as a clone', async () => {
  const pod = await node.runPod();
  const seen = await machineOf(pod);
  expect(seen).toMatchObject({ origin: 'clone', vcpus: 1 });
  expectMemory(seen, 512);
  await node.removePod(pod);
});

test('a handler chooses a class; one without template boots each machine', async () => {
  const pod = await node.runPod({ handler: 'kelyfos-wide' });
  expect((await node.podStatus(pod)).runtime_handler).toBe('kelyfos-wide');
  const seen = await machineOf(pod);
  expect(seen).toMatchObject({ origin: 'cold', vcpus: 2 });
  expectMemory(seen, 768);
  await node.removePod(pod);
});

test('a pod that asks for more than its class has gets a machine to its measure', async () => {
  const resources = { cpu_period: '100000', cpu_quota: '150000', memory_limit_in_bytes: String(700 * mebibyte) };
  const pod = await node.runPod({ config: { linux: { resources } } });
  const seen = await machineOf(pod);
  expect(seen).toMatchObject({ origin: 'cold', vcpus: 2 });
  // 700 MiB, 256 MiB for the guest itself, in steps of 128 MiB.
  expectMemory(seen, 1024);
  expect(seen.memoryMiB).toBeGreaterThan(700);
  await node.removePod(pod);
});

test('a pod that asks for less stays with its class', async () => {
  const resources = { cpu_period: '100000', cpu_quota: '50000', memory_limit_in_bytes: String(64 * mebibyte) };
  const pod = await node.runPod({ config: { linux: { resources } } });
  expect(await node.vmOf(pod)).toMatchObject({ origin: 'clone' });
  await node.removePod(pod);
});

test('a handler that is not configured is refused by name', async () => {
  await expect(node.runPod({ handler: 'no-such-handler' })).rejects.toMatchObject({
    code: 3,
    details: expect.stringMatching(/no-such-handler.*kelyfos-wide/) as unknown,
  });
  expect((await node.daemon.cri.call('ListPodSandbox', {})).items).toEqual([]);
});
