import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { buildBusyboxImage } from '../harness/busybox-image.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { kelyfos } from '../harness/kelyfos.ts';
import { type Pod, TestNode } from '../harness/node.ts';
import { waitForPool } from '../harness/pool.ts';

/** Pools that follow demand and leave memory to those who need it. */
let node: TestNode;
let images: string;

interface PoolState {
  readonly className: string;
  readonly idle: number;
  readonly size: number;
  readonly hits: number;
  readonly misses: number;
  readonly agesMs: readonly number[];
}

beforeAll(async () => {
  images = await freeFolder('images');
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
  await removeFolder(images);
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

async function configure(name: string, text: string): Promise<void> {
  const folder = join(dirname(node.daemon.configFile), 'config.d');
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, name), text);
  await node.daemon.stop();
  await node.daemon.start();
}

test('pooled machines hold the images that they are to hold, from when these are here', async () => {
  const late = `${node.registry.host}/kelyfos/late:test`;
  const names = [node.image, late];
  await configure('warm.toml', `[vm.classes.default]\npool_max = 1\nwarm_images = ${JSON.stringify(names)}\n`);
  const disksOf = async (pod: Pod): Promise<readonly string[]> => {
    const { id } = await node.vmOf(pod);
    return (await readdir(join(node.daemon.root, 'vms', id))).filter((name) => name.startsWith('slot')).toSorted();
  };

  expect(await waitForPool(node.daemon.cri)).toBe(true);
  const pod = await node.runPod();
  expect((await node.vmOf(pod)).origin).toBe('pool');
  expect(await disksOf(pod)).toEqual(['slot0.img']);
  const first = await node.startContainer(pod);
  expect((await node.runToEnd(pod, { command: ['sh', '-c', 'echo here'] })).output).toBe('here');
  expect(await node.sh(first, 'touch /new; ls /new')).toBe('/new');
  expect(await disksOf(pod)).toEqual(['slot0.img']);
  await node.removePod(pod);

  // What is ready has the owners of a pod without a user namespace.
  const mappings = [{ container_id: 0, host_id: 200_000, length: 65_536 }];
  const users = { mode: 'POD', uids: mappings, gids: mappings } as const;
  const namespace_options = { pid: 'CONTAINER', userns_options: users } as const;
  const linux = { security_context: { namespace_options } };
  expect(await waitForPool(node.daemon.cri)).toBe(true);
  const mapped = await node.runPod({ config: { linux } });
  expect(await disksOf(mapped)).toEqual(['slot0.img']);
  const inside = await node.startContainer(mapped, { config: { linux } });
  expect(await node.sh(inside, 'stat -c %u /bin/busybox; touch /new; stat -c %u /new')).toBe('0\n0');
  await node.daemon.cri.call('RemoveContainer', { container_id: inside });
  expect(await disksOf(mapped)).toEqual([]);
  await node.removePod(mapped);

  // Its program cannot be run, which is no reason to have no machine.
  const image = await buildBusyboxImage(images, { config: { Cmd: ['/nope'] }, files: { '/late': '' } });
  await node.registry.push(image.folder, 'kelyfos/late:test');
  expect(await waitForPool(node.daemon.cri)).toBe(true);
  await node.daemon.cri.call('PullImage', { image: { image: late } });
  // The idle machine lacks it, and is replaced.
  expect(await waitForPool(node.daemon.cri)).toBe(true);
  expect(await node.daemon.log()).toMatch(/cannot warm an image: .*\/nope/);
  const next = await node.runPod();
  expect(await disksOf(next)).toEqual(['slot0.img', 'slot1.img']);
  const config = { image: { image: late } };
  const container = await node.startContainer(next, { config });
  expect(await node.sh(container, 'ls /late')).toBe('/late');
  await node.daemon.cri.call('RemoveContainer', { container_id: container });
  expect(await disksOf(next)).toEqual(['slot0.img']);
  expect((await node.runToEnd(next, { command: ['ls', '/late'], config })).output).toBe('/late');
  await node.removePod(next);
});

test('a host that is short of memory has none for pools, and pods start all the same', async () => {
  await configure('reserve.toml', '[vm]\nmemory_reserve = "1000TiB"\n');
  expect(await burst(1)).toEqual(['clone']);
  expect(await poolOf('default')).toMatchObject({ idle: 0, size: 0, hits: 0, misses: 1 });
  const { text } = await kelyfos(node.daemon.socket, ['pool']);
  // From the second look on a quarter more is wanted: what ends a shortage is more than what begins it.
  expect(text).toMatch(/^memory is short, pools shrink: \d+ MiB available, (1048576000|1310720000) MiB wanted$/m);
});
