import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readdir, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FakePlugins } from './testing/fake-plugins.ts';
import { LocalNetworker } from './testing/local-networker.ts';
import { silentLog } from '../platform/log.ts';
import { CniPodNetworks } from './pod-networks.ts';
import type { AttachRequest } from './pod-networks.ts';

const request: AttachRequest = {
  sandboxId: 'sandbox1',
  netns: '/run/netns/no-such-namespace',
  podName: 'web',
  podNamespace: 'shop',
  podUid: 'uid-1',
  cgroupParent: '',
  portMappings: [],
  dns: { servers: [], searches: [], options: [] },
};

/** Needs no root: no namespace exists here, so that joining the tap fails after a successful ADD. */
describe('pod networks', () => {
  let fake: FakePlugins;
  let networks: CniPodNetworks;
  const never = new AbortController().signal;

  beforeEach(async () => {
    fake = new FakePlugins();
    await fake.install('one', 'two');
    await fake.returns('one', { ips: [{ address: '10.1.0.2/24' }] });
    await fake.returns('two', { ips: [{ address: '10.1.0.2/24' }], last: true });
    await fake.configure('10-pods.conflist', {
      cniVersion: '1.0.0',
      name: 'pods',
      plugins: [{ type: 'one' }, { type: 'two' }],
    });
    networks = make();
  });

  afterEach(async () => {
    await networks.close();
    await fake.remove();
  });

  function make(attachAhead = true): CniPodNetworks {
    const { confDir, binDir, cacheDir } = fake;
    const networker = new LocalNetworker();
    const log = silentLog();
    return new CniPodNetworks({ networker, confDir, binDirs: [binDir], cacheDir, attachAhead, log, pollMs: 20 });
  }

  const takeOrder = async (): Promise<readonly string[]> => fake.takeOrder();

  test('tell Kubernetes who the pod is', async () => {
    await expect(networks.attach(request, never)).rejects.toThrow();
    const [first] = await fake.calls();
    expect(first?.env['CNI_ARGS']).toBe(
      'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=sandbox1;K8S_POD_UID=uid-1',
    );
  });

  test.each([
    ['ADD of the first plugin', 'one', ['ADD one', 'DEL two', 'DEL one']],
    ['ADD of the last plugin', 'two', ['ADD one', 'ADD two', 'DEL two', 'DEL one']],
    ['the join', undefined, ['ADD one', 'ADD two', 'DEL two', 'DEL one']],
  ])('undo everything when %s fails', async (_where, broken, order) => {
    if (broken !== undefined) await fake.fails(broken, 'ADD');
    await expect(networks.attach(request, never)).rejects.toThrow(broken ?? 'no-such-namespace');
    expect(await takeOrder()).toEqual(order);
    expect(await readdir(fake.cacheDir)).toEqual([]);
  });

  test('clear away at the start what a crash left half written', async () => {
    const names = ['pods-sandbox1-eth0.json', 'pods-sandbox1-eth0.json.0123456789ab.tmp'];
    for (const name of names) await writeFile(join(fake.cacheDir, name), '{}');
    await networks.start();
    expect(await readdir(fake.cacheDir)).toEqual(['pods-sandbox1-eth0.json']);
  });

  test('undo an ADD that is cancelled, on their own clock', async () => {
    await fake.behaves('two', 'ADD', 'exec sleep 300');
    await expect(networks.attach(request, AbortSignal.timeout(300))).rejects.toMatchObject({ kind: 'deadline' });
    expect(await takeOrder()).toEqual(['ADD one', 'ADD two', 'DEL two', 'DEL one']);
  });

  test('keep the record of what could not be undone, for detach by a later daemon without the configuration', async () => {
    await fake.fails('one', 'DEL');
    await expect(networks.attach(request, never)).rejects.toThrow('no-such-namespace');
    expect(await readdir(fake.cacheDir)).toEqual(['pods-sandbox1-eth0.json']);
    await unlink(join(fake.confDir, '10-pods.conflist'));
    await fake.works('one', 'DEL');
    await takeOrder();
    await make().detach('sandbox1', request.netns);
    const calls = await fake.calls();
    expect(calls.map(({ stdin }) => stdin['prevResult'])).toEqual([
      { cniVersion: '1.0.0', ips: [{ address: '10.1.0.2/24' }], last: true },
      { cniVersion: '1.0.0', ips: [{ address: '10.1.0.2/24' }], last: true },
    ]);
    expect(await takeOrder()).toEqual(['DEL two', 'DEL one']);
    await make().detach('sandbox1', request.netns);
    expect(await takeOrder()).toEqual([]);
  });

  test('detach what has no record by the configuration of today', async () => {
    await networks.detach('sandbox2', '');
    expect(await takeOrder()).toEqual(['DEL two', 'DEL one']);
  });

  test('remove what is left of a broken attach before the next', async () => {
    await fake.fails('one', 'DEL');
    await expect(networks.attach(request, never)).rejects.toThrow();
    await fake.works('one', 'DEL');
    await takeOrder();
    await expect(networks.attach({ ...request, netns: '/run/netns/another' }, never)).rejects.toThrow();
    expect((await takeOrder()).slice(0, 3)).toEqual(['DEL two', 'DEL one', 'ADD one']);
  });

  test('do one thing at a time for a sandbox', async () => {
    await fake.behaves('one', 'ADD', 'sleep 0.1');
    await Promise.allSettled([
      networks.attach(request, never),
      networks.detach('sandbox1', ''),
      networks.attach(request, never),
    ]);
    expect(await takeOrder()).toEqual([
      ...['ADD one', 'ADD two', 'DEL two', 'DEL one'],
      ...['DEL two', 'DEL one'],
      ...['ADD one', 'ADD two', 'DEL two', 'DEL one'],
    ]);
  });

  test('give subnets of the node to plugins that want them', async () => {
    await fake.configure('10-pods.conflist', {
      ...{ cniVersion: '1.0.0', name: 'pods' },
      plugins: [{ type: 'one', capabilities: { ipRanges: true } }],
    });
    networks.setPodCidrs(['10.244.1.0/24']);
    await expect(networks.attach(request, never)).rejects.toThrow();
    const [first] = await fake.calls();
    expect(first?.stdin['runtimeConfig']).toEqual({ ipRanges: [[{ subnet: '10.244.1.0/24' }]] });
  });

  describe('made ahead', () => {
    const ports = [{ protocol: 'tcp', containerPort: 80, hostPort: 8080, hostIp: '' }];
    const chain = {
      cniVersion: '1.0.0',
      name: 'pods',
      plugins: [
        { type: 'bridge', ipam: { type: 'host-local', subnet: '10.1.0.0/24' } },
        { type: 'portmap', capabilities: { portMappings: true } },
      ],
    };

    beforeEach(async () => {
      await fake.install('bridge', 'portmap');
      for (const type of ['bridge', 'portmap']) await fake.returns(type, { ips: [{ address: '10.1.0.2/24' }] });
      await fake.configure('10-pods.conflist', chain);
      await networks.start();
      await networks.attachAhead('sandbox1', request.netns, never);
    });

    /** There is no namespace to join; whether plugins ran is what counts. */
    async function attachFails(change: Partial<AttachRequest> = {}): Promise<readonly string[]> {
      await takeOrder();
      await expect(networks.attach({ ...request, ...change }, never)).rejects.toThrow('no-such-namespace');
      return takeOrder();
    }

    test('go over to the pod without another ADD, and are its from then on', async () => {
      expect(await takeOrder()).toEqual(['ADD bridge', 'ADD portmap']);
      expect(networks.state().configuration).toMatchObject({ madeAhead: true });
      const dns = { servers: ['10.0.0.10'], searches: [], options: [] };
      expect(await attachFails({ dns, cgroupParent: '/kubepods' })).toEqual([]);
      await networks.detach('sandbox1', request.netns);
      const calls = (await fake.calls()).filter(({ env }) => env['CNI_COMMAND'] === 'DEL');
      expect(calls.map(({ env }) => env['CNI_ARGS'])).toEqual(
        Array(2).fill(
          'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=sandbox1;K8S_POD_UID=uid-1',
        ),
      );
      expect(await readdir(fake.cacheDir)).toEqual([]);
    });

    test('are made again for a pod that asks for more', async () => {
      const order = await attachFails({ portMappings: ports });
      expect(order.slice(0, 2).toSorted()).toEqual(['DEL bridge', 'DEL portmap']);
      expect(order.slice(2, 4)).toEqual(['ADD bridge', 'ADD portmap']);
    });

    test('are made again when the configuration is another one', async () => {
      const before = networks.aheadVersion;
      await fake.configure('10-pods.conflist', { ...chain, plugins: chain.plugins.slice(0, 1) });
      const order = await attachFails();
      expect(order.slice(2)).toEqual(['ADD bridge', 'DEL bridge']);
      expect([typeof before, networks.aheadVersion === before]).toEqual(['string', false]);
    });

    test('are made again when the node has other subnets, if a plugin cares', async () => {
      const before = networks.aheadVersion;
      networks.setPodCidrs(['10.244.1.0/24']);
      expect(networks.aheadVersion).toBe(before);
      const [bridge] = chain.plugins;
      await fake.configure('10-pods.conflist', {
        ...chain,
        plugins: [{ ...bridge, capabilities: { ipRanges: true } }],
      });
      await networks.attachAhead('sandbox2', request.netns, never);
      const with1 = networks.aheadVersion;
      networks.setPodCidrs(['10.244.2.0/24']);
      expect(networks.aheadVersion).not.toBe(with1);
      expect(await attachFails({ sandboxId: 'sandbox2' })).toEqual(['DEL bridge', 'ADD bridge', 'DEL bridge']);
    });

    test('leave nothing when a plugin fails', async () => {
      await fake.fails('portmap', 'ADD');
      await expect(networks.attachAhead('sandbox2', request.netns, never)).rejects.toThrow('portmap (ADD)');
      expect(await readdir(fake.cacheDir)).toEqual(['pods-sandbox1-eth0.json']);
    });
  });

  describe('state', () => {
    const until = async (ready: boolean): Promise<void> => {
      while (networks.state().ready !== ready) await new Promise((resolve) => setTimeout(resolve, 5));
    };

    test('is ready with a configuration and its plugins', async () => {
      await networks.start();
      expect(networks.state()).toEqual({
        ready: true,
        reason: '',
        message: '',
        configuration: {
          ...{
            name: 'pods',
            file: join(fake.confDir, '10-pods.conflist'),
            cniVersion: '1.0.0',
            plugins: ['one', 'two'],
            skipped: [],
            madeAhead: false,
          },
        },
      });
    });

    test('says what is missing, and notices when it comes', async () => {
      await unlink(join(fake.confDir, '10-pods.conflist'));
      await networks.start();
      expect(networks.state()).toEqual({
        ready: false,
        reason: 'NetworkPluginNotReady',
        message: `no valid CNI configuration in ${fake.confDir}: it holds no .conf, .conflist, .json file`,
      });
      await expect(networks.attach(request, never)).rejects.toMatchObject({ kind: 'unavailable' });
      await fake.configure('10-new.conf', { cniVersion: '1.0.0', name: 'new', type: 'three' });
      await fake.install('three');
      await until(true);
    });

    test('names a missing plugin', async () => {
      await unlink(join(fake.binDir, 'two'));
      await networks.start();
      expect(networks.state().message).toBe(
        `CNI network pods (${fake.confDir}/10-pods.conflist) is not ready: CNI plugin "two" is not in ${fake.binDir}`,
      );
      await fake.install('two');
      await until(true);
    });

    test('follows STATUS', async () => {
      await fake.configure('10-pods.conflist', { cniVersion: '1.1.0', name: 'pods', plugins: [{ type: 'one' }] });
      await fake.fails('one', 'STATUS', { code: 50, msg: 'no uplink' });
      await networks.start();
      expect(networks.state()).toMatchObject({ ready: false, reason: 'NetworkPluginNotReady' });
      expect(networks.state().message).toContain('no uplink (code 50)');
      await fake.works('one', 'STATUS');
      await until(true);
    });
  });
});
