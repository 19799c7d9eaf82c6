import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { existsSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FakePlugins } from '../testing/fake-plugins.ts';
import { expectGolden } from '../testing/golden.ts';
import { LocalNetworker } from '../testing/local-networker.ts';
import { AttachmentCache } from './attachment-cache.ts';
import { PluginChain } from './chain.ts';
import type { NewAttachment, StepTrace } from './chain.ts';
import { PluginRunner } from './invoke.ts';
import type { CniVersion } from './version.ts';

const trace: StepTrace = { step: (_name, work) => work(trace) };
const never = new AbortController().signal;
const ignored = (): void => undefined;
/** In a plugin: waits for a file that something beside it makes. */
const waits = (file: string): string =>
  `n=0; until [ -e "$root/${file}" ]; do n=$((n+1)); [ $n -lt 200 ] || exit 1; sleep 0.05; done`;

const results: Record<string, Record<string, unknown>> = {
  one: {
    cniVersion: '1.0.0',
    interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', sandbox: '/netns' }],
    ips: [{ address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 0 }],
    routes: [{ dst: '0.0.0.0/0' }],
  },
  two: { cniVersion: '1.0.0', ips: [{ address: '10.1.0.2/24' }], dns: { nameservers: ['10.1.0.1'] } },
  three: { cniVersion: '1.0.0', ips: [{ address: '10.1.0.2/24' }], step: 3 },
};

describe('a chain of plugins', () => {
  let fake: FakePlugins;
  let cache: AttachmentCache;
  let chain: PluginChain;

  beforeEach(async () => {
    fake = new FakePlugins();
    await fake.install('one', 'two', 'three');
    for (const [type, result] of Object.entries(results)) await fake.returns(type, result);
    cache = new AttachmentCache(fake.cacheDir);
    chain = new PluginChain(new PluginRunner({ programs: new LocalNetworker(), binDirs: [fake.binDir] }), cache);
  });

  afterEach(() => fake.remove());

  function attachment(cniVersion: CniVersion = '1.0.0'): NewAttachment {
    return {
      sandboxId: 'sandbox1',
      netns: '/proc/self/ns/net',
      configuration: {
        name: 'pods',
        cniVersion,
        plugins: [
          { type: 'one', mtu: 1400, ipam: { type: 'host-local', subnet: '10.1.0.0/24' } },
          { type: 'two', capabilities: { portMappings: true, bandwidth: true, dns: false }, name: 'overridden' },
          { type: 'three', capabilities: { ipRanges: true, dns: true } },
        ],
      },
      cniArgs: 'IgnoreUnknown=1;K8S_POD_NAME=web',
      capabilityArgs: {
        portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '' }],
        dns: { servers: ['10.0.0.10'], searches: ['svc.local'], options: ['ndots:5'] },
        ipRanges: [[{ subnet: '10.1.0.0/24' }]],
      },
    };
  }

  async function stdins(): Promise<string> {
    const calls = await fake.calls();
    return calls.map(({ command, type, stdin }) => `${command} ${type} ${JSON.stringify(stdin, null, 2)}\n`).join('');
  }

  test('hands each plugin its configuration, its capabilities and the result before', async () => {
    await chain.add(attachment(), trace, never, ignored);
    const [record] = await cache.find('sandbox1');
    await chain.delete(record!);
    expectGolden(new URL('./golden/chain-1.0.0.txt', import.meta.url), await stdins());
    const [first] = await fake.calls();
    expect(first?.env).toEqual({
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'sandbox1',
      CNI_NETNS: '/proc/self/ns/net',
      CNI_IFNAME: 'eth0',
      CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=web',
      CNI_PATH: fake.binDir,
    });
  });

  test('translates results for a network of an older version, and DEL has no result before 0.4.0', async () => {
    await chain.add(attachment('0.3.1'), trace, never, ignored);
    const [record] = await cache.find('sandbox1');
    await chain.delete(record!);
    expectGolden(new URL('./golden/chain-0.3.1.txt', import.meta.url), await stdins());
  });

  test('records the attachment before the first plugin runs and forgets it after DEL', async () => {
    await fake.behaves('one', 'ADD', 'ls "$root/results" > "$root/seen"');
    await chain.add(attachment(), trace, never, ignored);
    expect(await readdir(fake.cacheDir)).toEqual(['pods-sandbox1-eth0.json']);
    const [record] = await cache.find('sandbox1');
    expect(record).toMatchObject({ complete: true, result: results['three'] });
    await chain.delete(record!);
    expect(await readdir(fake.cacheDir)).toEqual([]);
  });

  test.each([
    ['one', undefined],
    ['two', results['one']],
    ['three', results['two']],
  ])('leaves what DEL needs when ADD of plugin %s fails', async (broken, previous) => {
    await fake.fails(broken, 'ADD');
    await expect(chain.add(attachment(), trace, never, ignored)).rejects.toThrow(
      `CNI plugin ${broken} (ADD): ${broken} is broken (code 100)`,
    );
    await fake.takeOrder();
    const [record] = await cache.find('sandbox1');
    expect(record?.complete).toBe(false);
    await chain.delete(record!);
    const calls = await fake.calls();
    expect(calls.map(({ command, type }) => `${command} ${type}`)).toEqual(['DEL three', 'DEL two', 'DEL one']);
    for (const { stdin } of calls) expect(stdin['prevResult']).toEqual(previous);
    expect(await cache.find('sandbox1')).toEqual([]);
  });

  test('stops DEL at the first failure and can be asked again', async () => {
    await chain.add(attachment(), trace, never, ignored);
    const [record] = await cache.find('sandbox1');
    await fake.takeOrder();
    await fake.fails('two', 'DEL');
    await expect(chain.delete(record!)).rejects.toThrow('CNI plugin two (DEL)');
    expect(await fake.takeOrder()).toEqual(['DEL three', 'DEL two']);
    await fake.works('two', 'DEL');
    const [kept] = await cache.find('sandbox1');
    await chain.delete(kept!);
    expect(await fake.takeOrder()).toEqual(['DEL three', 'DEL two', 'DEL one']);
  });

  test('says so when the namespace is gone or is only an empty file', async () => {
    await chain.add(attachment(), trace, never, ignored);
    const [record] = await cache.find('sandbox1');
    await fake.takeOrder();
    await chain.delete({ ...record!, netns: '/run/netns/no-such-namespace' });
    await chain.delete({ ...record!, netns: `${fake.binDir}/one` });
    expect((await fake.calls()).map(({ env }) => env['CNI_NETNS'])).toEqual(['', '', '', '', '', '']);
  });

  test('refuses output that is no result', async () => {
    await fake.returns('two', ['nonsense']);
    await expect(chain.add(attachment(), trace, never, ignored)).rejects.toThrow(
      'CNI plugin two (ADD): the CNI result is not a JSON object',
    );
  });

  describe('with a portmap plugin at its end', () => {
    const ports = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '' }] };

    function portmapped(capabilityArgs: NewAttachment['capabilityArgs']): NewAttachment {
      const plugins = [{ type: 'one' }, { type: 'portmap', capabilities: { portMappings: true } }];
      return { ...attachment(), configuration: { name: 'pods', cniVersion: '1.0.0', plugins }, capabilityArgs };
    }

    beforeEach(async () => {
      await fake.install('portmap');
      await fake.returns('portmap', results['one']);
    });

    test('tells that the interface is settled while portmap still works', async () => {
      await fake.behaves('portmap', 'ADD', waits('settled'));
      const settled: unknown[] = [];
      await chain.add(portmapped({}), trace, never, ({ content }) => {
        settled.push(content);
        writeFileSync(join(fake.root, 'settled'), '');
      });
      expect(settled).toEqual([results['one']]);
    });

    test('is told only at the end of a chain whose last plugin is another', async () => {
      const order: string[] = [];
      await fake.behaves('three', 'ADD', 'touch "$root/three-ran"');
      await chain.add(attachment(), trace, never, () => {
        order.push(existsSync(join(fake.root, 'three-ran')) ? 'after' : 'before');
      });
      expect(order).toEqual(['after']);
    });

    test('lets portmap look for rules of a pod without ports beside the other plugins', async () => {
      await chain.add(portmapped({}), trace, never, ignored);
      await fake.behaves('portmap', 'DEL', waits('deleted'));
      await fake.behaves('one', 'DEL', 'touch "$root/deleted"');
      const [record] = await cache.find('sandbox1');
      await chain.delete(record!);
      expect(await cache.find('sandbox1')).toEqual([]);
    });

    test('keeps the record when portmap fails, though there are no ports', async () => {
      await chain.add(portmapped({}), trace, never, ignored);
      await fake.fails('portmap', 'DEL');
      const [record] = await cache.find('sandbox1');
      await expect(chain.delete(record!)).rejects.toThrow('CNI plugin portmap (DEL)');
      expect(await cache.find('sandbox1')).toHaveLength(1);
    });

    test.each([
      ['a pod with ports', ports, true],
      ['an ADD that did not end', {}, false],
    ])('removes the rules of %s before the address is given back', async (_name, capabilityArgs, complete) => {
      if (!complete) await fake.fails('portmap', 'ADD');
      await chain.add(portmapped(capabilityArgs), trace, never, ignored).catch((error: unknown) => {
        if (complete) throw error;
      });
      await fake.takeOrder();
      const [record] = await cache.find('sandbox1');
      await chain.delete(record!);
      expect(await fake.takeOrder()).toEqual(['DEL portmap', 'DEL one']);
    });
  });

  test('forgets records that a crash of the host has damaged', async () => {
    await chain.add(attachment(), trace, never, ignored);
    await writeFile(join(fake.cacheDir, 'pods-sandbox2-eth0.json'), '');
    await cache.tidy();
    expect(await readdir(fake.cacheDir)).toEqual(['pods-sandbox1-eth0.json']);
  });

  describe('readiness', () => {
    test('asks STATUS from version 1.1.0 on', async () => {
      expect(await chain.problem(attachment('1.0.0').configuration, never)).toBeUndefined();
      expect(await fake.takeOrder()).toEqual([]);
      expect(await chain.problem(attachment('1.1.0').configuration, never)).toBeUndefined();
      const [first] = await fake.calls();
      expect(first?.env).toEqual({ CNI_COMMAND: 'STATUS', CNI_PATH: fake.binDir });
      expect(await fake.takeOrder()).toEqual(['STATUS one', 'STATUS two', 'STATUS three']);
    });

    test('takes a plugin that does not know STATUS for ready, and believes one that does', async () => {
      await fake.fails('one', 'STATUS', { code: 4, msg: 'unknown CNI_COMMAND: STATUS' });
      expect(await chain.problem(attachment('1.1.0').configuration, never)).toBeUndefined();
      await fake.fails('two', 'STATUS', { code: 50, msg: 'no uplink' });
      expect(await chain.problem(attachment('1.1.0').configuration, never)).toBe(
        'CNI plugin two (STATUS): no uplink (code 50)',
      );
    });

    test('names a plugin that is not installed', async () => {
      await mkdir(`${fake.binDir}/folder`);
      const configuration = { ...attachment().configuration, plugins: [{ type: 'folder' }] };
      expect(await chain.problem(configuration, never)).toBe(`CNI plugin "folder" is not in ${fake.binDir}`);
    });
  });
});
