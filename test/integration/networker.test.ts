import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import { PluginRunner } from '../../src/network/cni/invoke.ts';
import { Networker } from '../../src/network/networker.ts';
import { describeNamespace } from '../../src/network/read-interfaces.ts';
import { silentLog } from '../../src/platform/log.ts';
import { identify, waitGone } from '../../src/platform/processes.ts';
import { networkerProgram } from '../harness/networker.ts';

const tap = 'tap0';
let networker: Networker;

beforeEach(() => {
  networker = new Networker({ program: networkerProgram, log: silentLog() });
});

afterEach(() => {
  networker.close();
});

describe('a namespace', () => {
  const name = `kelyfos-test-${randomBytes(4).toString('hex')}`;
  const path = `/run/netns/${name}`;

  beforeEach(async () => {
    await networker.make(path, tap, []);
  });

  afterEach(async () => {
    await networker.forget(path);
    expect(existsSync(path)).toBe(false);
  });

  const inside = async (...argv: readonly string[]): Promise<string> =>
    (await execa('nsenter', [`--net=${path}`, ...argv])).stdout;

  /** An interface as a plugin would leave it. */
  async function makeInterface(mtu: number): Promise<void> {
    await inside('ip', 'link', 'add', 'eth0', 'mtu', String(mtu), 'type', 'veth', 'peer', 'name', 'peer0');
    await inside('ip', 'address', 'add', '10.1.0.2/24', 'dev', 'eth0');
    await inside('ip', 'link', 'set', 'eth0', 'up');
  }

  const mtuOfTap = async (): Promise<unknown> =>
    (JSON.parse(await inside('ip', '-json', 'link', 'show', tap)) as [{ mtu: number }])[0].mtu;
  const redirects = async (from: string): Promise<readonly string[]> =>
    [...(await inside('tc', 'filter', 'show', 'dev', from, 'ingress')).matchAll(/Redirect to device (\S+)\)/g)].map(
      ([, to = '']) => to,
    );

  test('a clsact qdisc that a plugin has made stays and serves', async () => {
    await makeInterface(1500);
    await inside('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact');
    await networker.join(path, 'eth0', tap);
    expect(await inside('tc', 'qdisc', 'show', 'dev', 'eth0')).toMatch(/^qdisc clsact ffff:/m);
    expect([await redirects('eth0'), await redirects(tap)]).toEqual([[tap], ['eth0']]);
  });

  test('joined again, with the same interface and with a new one: one filter each, the MTU follows', async () => {
    await makeInterface(1400);
    for (let time = 0; time < 2; time++) {
      await networker.join(path, 'eth0', tap);
      expect([await redirects('eth0'), await redirects(tap), await mtuOfTap()]).toEqual([[tap], ['eth0'], 1400]);
    }
    await inside('ip', 'link', 'delete', 'eth0');
    await makeInterface(9000);
    await networker.join(path, 'eth0', tap);
    expect([await redirects('eth0'), await redirects(tap), await mtuOfTap()]).toEqual([[tap], ['eth0'], 9000]);
  });

  test('is told of as it is', async () => {
    await makeInterface(1500);
    const routes = [
      'default via 10.1.0.1',
      '10.3.0.0/16 via 10.1.0.1 metric 5 mtu 1300',
      '10.4.0.0/16 via 10.88.0.1 dev eth0 onlink',
      'blackhole 10.77.0.0/16',
      '10.78.0.0/16 nexthop via 10.1.0.1 nexthop via 10.1.0.3',
      '10.79.0.0/16 dev eth0 table 99',
    ];
    const commands = [
      ...routes.map((route) => `route add ${route}`),
      'address add fd00::2/64 dev eth0 nodad',
      'route add default via fd00::1',
      'neighbour add 10.1.0.1 lladdr 02:00:00:00:00:ff dev eth0 nud permanent',
      'neighbour add 10.1.0.9 lladdr 02:00:00:00:00:fe dev eth0 nud reachable',
    ];
    await execa('nsenter', [`--net=${path}`, 'ip', '-batch', '-'], { input: `${commands.join('\n')}\n` });
    const network = describeNamespace(await networker.join(path, 'eth0', tap));
    expect(network.interfaces).toMatchObject([{ name: 'eth0', mtu: 1500, addresses: ['10.1.0.2/24', 'fd00::2/64'] }]);
    const shown = network.routes.map(({ destination, gateway, metric, mtu, onlink, source }) =>
      [destination, gateway, metric, mtu, onlink, source].join(' '),
    );
    expect(shown.sort()).toEqual([
      '0.0.0.0/0 10.1.0.1 0 0 false ',
      '10.1.0.0/24  0 0 false 10.1.0.2',
      '10.3.0.0/16 10.1.0.1 5 1300 false ',
      '10.4.0.0/16 10.88.0.1 0 0 true ',
      '10.78.0.0/16 10.1.0.1 0 0 false ',
      '::/0 fd00::1 1024 0 false ',
      'fd00::/64  256 0 false ',
    ]);
    expect(network.neighbours).toEqual([{ address: '10.1.0.1', mac: '02:00:00:00:00:ff', interface: 'eth0' }]);
  });

  test('has the outer end of its interface without IPv6 where that is a port of a bridge, and there alone', async () => {
    const [bridge, outer] = [`kb${name.slice(-8)}`, `ko${name.slice(-8)}`];
    const ipv6IsOff = async (link: string): Promise<boolean> =>
      (await readFile(`/proc/sys/net/ipv6/conf/${link}/disable_ipv6`, 'utf8')).trim() === '1';
    await execa('ip', ['link', 'add', outer, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name]);
    try {
      await networker.join(path, 'eth0', tap);
      expect(await ipv6IsOff(outer)).toBe(false);
      await execa('ip', ['link', 'add', bridge, 'type', 'bridge']);
      await execa('ip', ['link', 'set', outer, 'master', bridge]);
      await networker.join(path, 'eth0', tap);
      expect([await ipv6IsOff(outer), await ipv6IsOff(bridge)]).toEqual([true, false]);
    } finally {
      await execa('ip', ['link', 'delete', outer]);
      await execa('ip', ['link', 'delete', bridge], { reject: false });
    }
  });

  test('without the interface is refused, and so is one that there is already', async () => {
    await expect(networker.join(path, 'eth0', tap)).rejects.toThrow('there is no interface eth0');
    await expect(networker.make(path, tap, [])).rejects.toThrow(`make ${path}: File exists`);
    await expect(networker.join('/run/netns/no-such-namespace', 'eth0', tap)).rejects.toThrow('no-such-namespace');
  });
});

describe('a program', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kelyfos-networker-'));
  });

  afterEach(async () => {
    await rm(folder, { recursive: true });
  });

  async function install(...lines: readonly string[]): Promise<PluginRunner> {
    await writeFile(join(folder, 'net'), ['#!/bin/sh', ...lines, ''].join('\n'), { mode: 0o755 });
    return new PluginRunner({ programs: networker, binDirs: [folder] });
  }

  async function startedBy(file: string): Promise<NonNullable<Awaited<ReturnType<typeof identify>>>> {
    while (!existsSync(join(folder, file))) await delay(5);
    const found = await identify(Number(await readFile(join(folder, file), 'utf8')));
    if (found === undefined) throw new Error('it has ended already');
    return found;
  }

  const waits = [`sleep 300 & echo $! > "$CNI_PATH/new" && mv "$CNI_PATH/new" "$CNI_PATH/child"`, 'wait'];

  test('is given input and environment, and its end is told', async () => {
    const runner = await install(
      'echo "{\\"input\\": $(cat), \\"command\\": \\"$CNI_COMMAND\\", \\"extra\\": \\"$EXTRA\\"}"',
    );
    // U+2028 ends a line for some, not in JSON.
    const config = { text: 'a\u2028b', long: 'x'.repeat(200_000) };
    expect(await runner.run('ADD', 'net', config, { EXTRA: 'yes' })).toEqual({
      ...{ input: config, command: 'ADD', extra: 'yes' },
    });
    const failing = await install(`echo '{"code":7,"msg":"bad"}'`, 'exit 1');
    await expect(failing.run('ADD', 'net', {}, {})).rejects.toMatchObject({
      ...{ kind: 'failed-precondition', message: 'CNI plugin net (ADD): bad (code 7)' },
    });
    const killed = await install('kill -TERM $$');
    await expect(killed.run('ADD', 'net', {}, {})).rejects.toThrow('CNI plugin net (ADD): SIGTERM: no error message');
  });

  test('that cannot be started is said to', async () => {
    const runner = await install();
    await writeFile(join(folder, 'net'), '#!/no/such/interpreter\n', { mode: 0o755 });
    await expect(runner.run('ADD', 'net', {}, {})).rejects.toMatchObject({ kind: 'failed-precondition' });
  });

  test('that is cancelled ends with what it has started', async () => {
    const runner = await install(...waits);
    const controller = new AbortController();
    const run = runner.run('ADD', 'net', {}, {}, controller.signal);
    const child = await startedBy('child');
    controller.abort();
    await expect(run).rejects.toMatchObject({ kind: 'cancelled' });
    expect(await waitGone(child, 1_000)).toBe(true);
  });

  test('ends when the networker ends by itself, which is told and started again', async () => {
    const runner = await install(...waits);
    const run = runner.run('ADD', 'net', {}, {});
    const child = await startedBy('child');
    const pid = await networkerAbove(child.pid);
    // What a service manager may send to all of a service: it is the daemon's to end it.
    process.kill(pid, 'SIGTERM');
    await delay(50);
    expect(await identify(child.pid)).toEqual(child);
    process.kill(pid, 'SIGKILL');
    await expect(run).rejects.toMatchObject({
      ...{ kind: 'internal', message: expect.stringContaining('kelyfos-networker has ended: SIGKILL') as unknown },
    });
    expect(await waitGone(child, 1_000)).toBe(true);
    const again = await install('echo "{}"');
    expect(await again.run('ADD', 'net', {}, {})).toEqual({});
  });

  test('is not started by a networker that is closed or missing', async () => {
    const runner = await install('echo "{}"');
    networker.close();
    await expect(runner.run('ADD', 'net', {}, {})).rejects.toThrow('is closed');
    networker = new Networker({ program: join(folder, 'missing'), log: silentLog() });
    const other = new PluginRunner({ programs: networker, binDirs: [folder] });
    await expect(other.run('ADD', 'net', {}, {})).rejects.toThrow('missing');
  });

  /** The process that has started a program, or its parent: other tests of this process have networkers as well. */
  async function networkerAbove(pid: number): Promise<number> {
    for (let above = pid; above > 1;) {
      const status = await readFile(`/proc/${String(above)}/status`, 'utf8');
      if (status.startsWith('Name:\tkelyfos-network')) return above;
      above = Number(/^PPid:\t(\d+)$/m.exec(status)?.[1]);
    }
    throw new Error('there is no networker');
  }
});
