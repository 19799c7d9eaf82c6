import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { kelyfos } from '../harness/kelyfos.ts';
import { TestNode } from '../harness/node.ts';
import { waitForPool } from '../harness/pool.ts';

/** Pools that follow demand and leave memory to those who need it. */
let node: TestNode;

interface PoolState {
  readonly className: string;
  readonly idle: number;
  readonly size: number;
  readonly hits: number;
  readonly misses: number;
  readonly agesMs: readonly number[];
}

beforeAll(async () => {
  node = await TestNode.start({
    config: {
      vm: {
        classes: {
          default: { memory: '512MiB', pool: 1, pool_max: 3, rehearse: false },
          other: { memory: '256MiB', pool: 1, rehearse: false },
        },
      },
      handlers: { other: { class: 'other' } },
    },
  });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

async function poolOf(className: string): Promise<PoolState> {
  const { exitCode, text, stderr } = await kelyfos(node.daemon.socket, ['pool', '--json']);
  expect([exitCode, stderr]).toEqual([0, '']);
  const { classes } = JSON.parse(text) as { readonly classes: readonly PoolState[] };
  const found = classes.find((pool) => pool.className === className);
  if (found === undefined) throw new Error(`no pool of class ${className}: ${text}`);
  return found;
}

/** Where the VMs of so many pods came from that were started at once. */
async function burst(count: number): Promise<readonly string[]> {
  const pods = await Promise.all(Array.from({ length: count }, () => node.runPod()));
  const origins = await Promise.all(pods.map(async (pod) => (await node.vmOf(pod)).origin));
  await Promise.all(pods.map((pod) => node.removePod(pod)));
  return origins.toSorted();
}

test('a burst that found too little is met the next time', async () => {
  expect(await waitForPool(node.daemon.cri)).toBe(true);
  expect(await poolOf('default')).toMatchObject({ idle: 1, size: 1, hits: 0, misses: 0 });
  expect(await burst(3)).toEqual(['clone', 'clone', 'pool']);
  expect(await poolOf('default')).toMatchObject({ size: 3, hits: 1, misses: 2 });
  expect(await waitForPool(node.daemon.cri)).toBe(true);
  expect(await burst(3)).toEqual(['pool', 'pool', 'pool']);
  expect(await poolOf('default')).toMatchObject({ size: 3, hits: 4, misses: 2 });
});

test('each class has a pool of its own', async () => {
  expect(await waitForPool(node.daemon.cri, { className: 'other' })).toBe(true);
  const before = await poolOf('default');
  const pod = await node.runPod({ handler: 'other' });
  expect((await node.vmOf(pod)).origin).toBe('pool');
  expect(await poolOf('other')).toMatchObject({ size: 1, hits: 1, misses: 0 });
  expect(await poolOf('default')).toMatchObject({ hits: before.hits, misses: before.misses });
  await node.removePod(pod);

  expect(await waitForPool(node.daemon.cri)).toBe(true);
  const { text } = await kelyfos(node.daemon.socket, ['pool']);
  expect(text.split('\n')[0]).toMatch(/^CLASS +TEMPLATE +IDLE +TARGET +RANGE +HITS +MISSES +AGES$/);
  expect(text).toMatch(/^default +ready +3 +3 +1-3 +4 +2 +\d+s \d+s \d+s$/m);
});

test('a host that is short of memory has none for pools, and pods start all the same', async () => {
  const folder = join(dirname(node.daemon.configFile), 'config.d');
  await mkdir(folder);
  await writeFile(join(folder, 'reserve.toml'), '[vm]\nmemory_reserve = "1000TiB"\n');
  await node.daemon.stop();
  await node.daemon.start();
  expect(await burst(1)).toEqual(['clone']);
  expect(await poolOf('default')).toMatchObject({ idle: 0, size: 0, hits: 0, misses: 1 });
  const { text } = await kelyfos(node.daemon.socket, ['pool']);
  // From the second look on a quarter more is wanted: what ends a shortage is more than what begins it.
  expect(text).toMatch(/^memory is short, pools shrink: \d+ MiB available, (1048576000|1310720000) MiB wanted$/m);
});
