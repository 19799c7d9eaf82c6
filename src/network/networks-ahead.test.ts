import { mkdtemp, readdir, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { silentLog } from '../platform/log.ts';
import { NetworksAhead } from './networks-ahead.ts';
import { CniPodNetworks } from './pod-networks.ts';
import { FakePlugins } from './testing/fake-plugins.ts';
import { LocalNetworker } from './testing/local-networker.ts';

const netns = '/run/netns/no-such-namespace';
const never = new AbortController().signal;
const chain = { cniVersion: '1.0.0', name: 'pods', type: 'bridge', ipam: { type: 'host-local' } };
const request = {
  ...{ sandboxId: 'pod1', netns, podName: 'web', podNamespace: 'shop', podUid: 'u', cgroupParent: '' },
  ...{ portMappings: [], dns: { servers: [], searches: [], options: [] } },
};

let fake: FakePlugins;
let root: string;
let networks: NetworksAhead;
let opened: { close(): Promise<void> }[];
let now = 0;

beforeEach(async () => {
  fake = new FakePlugins();
  root = await mkdtemp(join(tmpdir(), 'cni-ahead-'));
  opened = [];
  now = 0;
  await fake.install('bridge', 'calico');
  for (const type of ['bridge', 'calico']) await fake.returns(type, { ips: [{ address: '10.1.0.2/24' }] });
  await fake.configure('10-pods.conf', chain);
  networks = await daemon();
});

afterEach(async () => {
  for (const each of opened.toReversed()) await each.close();
  await fake.remove();
  await rm(root, { recursive: true });
});

async function daemon(attachAhead = true): Promise<NetworksAhead> {
  const { confDir, binDir, cacheDir } = fake;
  const [networker, log] = [new LocalNetworker(), silentLog()];
  const cni = new CniPodNetworks({ networker, confDir, binDirs: [binDir], cacheDir, attachAhead, log, pollMs: 20 });
  await cni.start();
  const reservedDir = join(root, 'reserved');
  const ahead = new NetworksAhead({ networks: cni, reservedDir, log, retryMs: 20, now: () => now });
  await ahead.start();
  opened.push(cni, ahead);
  return ahead;
}

const reserved = (): Promise<string[]> => readdir(join(root, 'reserved'));

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}

test('an address is given back, and its id forgotten, when there will be no pod', async () => {
  await networks.make('pod1', netns, never);
  expect([await reserved(), await readdir(fake.cacheDir)]).toEqual([['pod1'], ['pods-pod1-eth0.json']]);
  await networks.giveBack('pod1', netns);
  expect([await reserved(), await readdir(fake.cacheDir)]).toEqual([[], []]);
  expect(await fake.takeOrder()).toEqual(['ADD bridge', 'DEL bridge']);
});

test('once there is a pod its record has the id', async () => {
  await networks.make('pod1', netns, never);
  await expect(networks.attach(request, never)).rejects.toThrow('no-such-namespace');
  expect(await reserved()).toEqual([]);
  expect(await fake.takeOrder()).toEqual(['ADD bridge']);
});

test('what a daemon or a host that died has left is given back, and nothing else', async () => {
  for (const id of ['pod1', 'pod2', 'pod3']) await networks.make(id, netns, never);
  // The cache does not survive the host; what is damaged in it must not hinder the rest.
  await unlink(join(fake.cacheDir, 'pods-pod1-eth0.json'));
  await writeFile(join(fake.cacheDir, 'pods-pod4-eth0.json'), '{"version": 2}');
  await fake.takeOrder();
  const next = await daemon();
  await next.detachOthers(new Set(['pod3']));
  expect((await readdir(fake.cacheDir)).toSorted()).toEqual(['pods-pod3-eth0.json', 'pods-pod4-eth0.json']);
  expect(await reserved()).toEqual([]);
  const undone = (await fake.calls()).filter(({ env }) => env['CNI_COMMAND'] === 'DEL');
  expect(undone).toHaveLength(2);
  expect(new Set(undone.map(({ env }) => env['CNI_CONTAINERID']))).toEqual(new Set(['pod1', 'pod2']));
});

test('without a configuration that is done when there is one', async () => {
  await networks.make('pod1', netns, never);
  await unlink(join(fake.cacheDir, 'pods-pod1-eth0.json'));
  await unlink(join(fake.confDir, '10-pods.conf'));
  const next = await daemon();
  await next.detachOthers(new Set());
  expect([await reserved(), next.version]).toEqual([['pod1'], undefined]);
  await fake.configure('10-pods.conf', chain);
  await until(async () => (await reserved()).length === 0);
});

test('what cannot be given back is tried again', async () => {
  await networks.make('pod1', netns, never);
  await fake.fails('bridge', 'DEL');
  await networks.giveBack('pod1', netns);
  expect(await reserved()).toEqual(['pod1']);
  await fake.works('bridge', 'DEL');
  await until(async () => (await reserved()).length === 0);
  expect(await readdir(fake.cacheDir)).toEqual([]);
});

test('a plugin that hangs does not hold up the end of a machine', async () => {
  await networks.make('pod1', netns, never);
  await fake.behaves('bridge', 'DEL', 'until [ -e "$root/let-go" ]; do sleep 0.02; done');
  const began = performance.now();
  await networks.giveBack('pod1', netns);
  expect(performance.now() - began).toBeLessThan(30_000);
  expect(await reserved()).toEqual(['pod1']);
  await writeFile(join(fake.root, 'let-go'), '');
  await until(async () => (await reserved()).length === 0);
});

test('a failed ADD leaves nothing in the way of the pod', async () => {
  await fake.fails('bridge', 'ADD');
  await fake.fails('bridge', 'DEL');
  await expect(networks.make('pod1', netns, never)).rejects.toThrow('bridge (ADD)');
  for (const command of ['ADD', 'DEL']) await fake.works('bridge', command);
  await fake.takeOrder();
  await expect(networks.attach(request, never)).rejects.toThrow('no-such-namespace');
  expect(await fake.takeOrder()).toEqual(['DEL bridge', 'ADD bridge', 'DEL bridge']);
});

test('none is made by a plugin that has taken the place of another one', async () => {
  await fake.configure('10-pods.conf', { ...chain, type: 'calico' });
  await expect(networks.make('pod1', netns, never)).rejects.toThrow('is made with its pods only');
  expect([networks.version, await fake.takeOrder()]).toEqual(['', []]);
});

test('when pods find no address those that wait for nobody are given back for a while', async () => {
  expect(networks.version).toMatch(/bridge/);
  await fake.fails('bridge', 'ADD', {
    code: 999,
    msg: 'failed to allocate for range 0: no IP addresses available in range set: 10.1.0.2-10.1.0.2',
  });
  await expect(networks.attach(request, never)).rejects.toThrow('no IP addresses available');
  expect(networks.version).toBe('');
  now += 5 * 60_000;
  expect(networks.version).toMatch(/bridge/);
});

test.each([
  ['is switched off', chain, false],
  ['has a plugin that may go by who the pod is', { ...chain, type: 'calico' }, true],
  ['has addresses that may', { ...chain, ipam: { type: 'calico-ipam' } }, true],
  ['tells a plugin what each pod has of its own', { ...chain, capabilities: { dns: true } }, true],
])('none is made where the network %s', async (_how, configuration, attachAhead) => {
  await fake.configure('10-pods.conf', configuration);
  expect((await daemon(attachAhead)).version).toBe('');
});

test('whether one is to be made cannot be told while the network is not ready', async () => {
  await fake.configure('10-pods.conf', { ...chain, type: 'ptp' });
  expect((await daemon()).version).toBeUndefined();
});
