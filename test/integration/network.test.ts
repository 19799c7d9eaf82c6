import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, unlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';

import { NetworkNamespaces, TAP_NAME } from '../../src/network/network-namespaces.ts';
import { Networker } from '../../src/network/networker.ts';
import { CniPodNetworks } from '../../src/network/pod-networks.ts';
import type { AttachRequest, AttachedNetwork } from '../../src/network/pod-networks.ts';
import { silentLog } from '../../src/platform/log.ts';
import { networkerProgram } from '../harness/networker.ts';
import { TapGuest } from '../harness/tap-guest.ts';
import type { RunningProgram } from '../harness/tap-guest.ts';

const BIN_DIRS = ['/opt/cni/bin', '/usr/lib/cni'];
/** Names and subnets that no other network of the machine has. */
const unique = randomBytes(2).toString('hex');
const bridge = `ktest${unique}`;
const network = `kelyfos-test-${unique}`;
const outside = `kelyfos-test-out-${unique}`;
const HOST_PORT = 28_731;
const PORT = 7_000;

/** Real plugins, real namespaces and taps; only the virtual machine is played by a TapGuest. */
describe('network', () => {
  let root: string;
  const networker = new Networker({ program: networkerProgram, log: silentLog() });
  let namespaces: NetworkNamespaces;
  let networks: CniPodNetworks;
  const vms: string[] = [];
  const guests: TapGuest[] = [];
  const servers: RunningProgram[] = [];
  const sandboxes = new Map<string, string>();
  let hadPortChains: boolean;

  beforeAll(async () => {
    hadPortChains = (await natRules()).includes('CNI-HOSTPORT-DNAT');
    await execa('ip', ['netns', 'add', outside]);
    await execa('ip', ['link', 'add', `${bridge}o`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', outside]);
    await execa('ip', ['address', 'add', '203.0.113.1/30', 'dev', `${bridge}o`]);
    await execa('ip', ['link', 'set', `${bridge}o`, 'up']);
    await execa('ip', ['-n', outside, '-batch', '-'], {
      input: 'link set lo up\naddress add 203.0.113.2/30 dev eth0\nlink set eth0 up\n',
    });
  });

  afterAll(async () => {
    networker.close();
    await execa('ip', ['netns', 'delete', outside]);
    await execa('ip', ['link', 'delete', bridge], { reject: false });
    if (!hadPortChains) await removePortChains();
  });

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kelyfos-network-'));
    await mkdir(join(root, 'net.d'));
    namespaces = new NetworkNamespaces({ networker, markerDir: join(root, 'netns') });
    networks = makeNetworks();
    await configure(dualStack());
  });

  afterEach(async () => {
    for (const server of servers.splice(0)) {
      server.kill('SIGKILL');
      await server;
    }
    for (const guest of guests.splice(0)) await guest.stop();
    for (const [sandboxId, netns] of sandboxes) await networks.detach(sandboxId, netns);
    sandboxes.clear();
    for (const vm of vms.splice(0)) await namespaces.remove(vm);
    await networks.close();
    expect(await namespaces.list()).toEqual([]);
    await rm(root, { recursive: true });
  });

  function makeNetworks(): CniPodNetworks {
    return new CniPodNetworks({
      networker,
      confDir: join(root, 'net.d'),
      binDirs: BIN_DIRS,
      cacheDir: join(root, 'results'),
      log: silentLog(),
    });
  }

  function bridgePlugin(ipam: Record<string, unknown>): Record<string, unknown> {
    return {
      ...{ type: 'bridge', bridge, mtu: 1400, isGateway: true, ipMasq: true, hairpinMode: true },
      ipam: { type: 'host-local', dataDir: join(root, 'ipam'), ...ipam },
    };
  }

  function dualStack(...more: readonly Record<string, unknown>[]): Record<string, unknown> {
    const ipam = {
      ranges: [[{ subnet: '10.213.77.0/24' }], [{ subnet: 'fd00:213:77::/64' }]],
      routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
    };
    return { cniVersion: '1.0.0', name: network, plugins: [bridgePlugin(ipam), ...more] };
  }

  async function configure(content: Record<string, unknown>): Promise<void> {
    await writeFile(join(root, 'net.d', '10-test.conflist'), JSON.stringify(content));
  }

  async function makeNamespace(): Promise<string> {
    const vm = randomBytes(8).toString('hex');
    vms.push(vm);
    return namespaces.create(vm);
  }

  async function attach(
    netns: string,
    more: Partial<AttachRequest> = {},
  ): Promise<AttachedNetwork & { sandboxId: string }> {
    const sandboxId = more.sandboxId ?? randomBytes(32).toString('hex');
    sandboxes.set(sandboxId, netns);
    const request: AttachRequest = {
      ...{
        sandboxId,
        netns,
        podName: 'web',
        podNamespace: 'default',
        podUid: 'uid',
        cgroupParent: '',
        portMappings: [],
      },
      dns: { servers: [], searches: [], options: [] },
      ...more,
    };
    return { sandboxId, ...(await networks.attach(request, AbortSignal.timeout(30_000))) };
  }

  /** A pod with a guest that answers on PORT with what it is sent. */
  async function pod(
    offloads = true,
  ): Promise<{ netns: string; network: AttachedNetwork; guest: TapGuest; sandboxId: string }> {
    const netns = await makeNamespace();
    const attached = await attach(netns);
    const guest = await TapGuest.start(`kelyfos-test-vm${String(guests.length)}-${unique}`, netns, TAP_NAME, offloads);
    guests.push(guest);
    await guest.configure(attached);
    servers.push(echo(guest.name));
    return { netns, network: attached, guest, sandboxId: attached.sandboxId };
  }

  function echo(namespace: string): RunningProgram {
    // Patience after the end of one direction: by default, what has not come back within 0.5 s is cut off.
    const argv = ['socat', '-t', '10', `TCP6-LISTEN:${String(PORT)},ipv6only=0,fork,reuseaddr`, 'EXEC:cat'];
    return execa('nsenter', [`--net=/run/netns/${namespace}`, ...argv], { reject: false, stdin: 'ignore' });
  }

  test('a namespace has loopback and a tap, is known to iproute2, and goes completely', async () => {
    const vm = randomBytes(8).toString('hex');
    const netns = await namespaces.create(vm);
    expect(netns).toBe(`/run/netns/kelyfos-${vm}`);
    expect(await namespaces.list()).toEqual([vm]);
    await expect(namespaces.create(vm)).rejects.toMatchObject({ kind: 'already-exists' });
    const { stdout } = await execa('ip', ['-n', `kelyfos-${vm}`, '-json', '-details', 'link', 'show']);
    const links = JSON.parse(stdout) as { ifname: string; flags: string[]; linkinfo?: { info_data: unknown } }[];
    expect(links.map(({ ifname, flags }) => [ifname, flags.includes('UP')])).toEqual([
      ['lo', true],
      [TAP_NAME, true],
    ]);
    expect(links[1]?.linkinfo?.info_data).toEqual({
      type: 'tap',
      pi: false,
      vnet_hdr: true,
      multi_queue: false,
      persist: true,
    });
    await namespaces.remove(vm);
    await namespaces.remove(vm);
    expect((await execa('ip', ['netns', 'list'])).stdout).not.toContain(vm);
    expect(await namespaces.list()).toEqual([]);
  });

  test('many namespaces are made at once', async () => {
    await Promise.all(Array.from({ length: 8 }, makeNamespace));
    expect(await namespaces.list()).toHaveLength(8);
  });

  test('a pod is given what the plugins set up, IPv4 first as in the result', async () => {
    const netns = await makeNamespace();
    const attached = await attach(netns);
    expect(attached.interfaces).toEqual([
      {
        name: 'eth0',
        mac: expect.stringMatching(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/),
        mtu: 1400,
        addresses: ['10.213.77.2/24', 'fd00:213:77::2/64'],
      },
    ]);
    expect(attached.ips).toEqual(['10.213.77.2', 'fd00:213:77::2']);
    expect(attached.routes.map(({ destination, gateway }) => `${destination} ${gateway}`)).toEqual([
      '10.213.77.0/24 ',
      'fd00:213:77::/64 ',
      '0.0.0.0/0 10.213.77.1',
      '::/0 fd00:213:77::1',
    ]);
    const { stdout } = await execa('nsenter', [`--net=${netns}`, 'ip', '-json', 'link', 'show', TAP_NAME]);
    expect(JSON.parse(stdout)).toMatchObject([{ mtu: 1400 }]);
    expect(await ipv6IsOff(netns)).toBe(false);
  });

  test('attaching again gives the same answer', async () => {
    const netns = await makeNamespace();
    const { sandboxId, ...first } = await attach(netns);
    expect(await attach(netns, { sandboxId })).toEqual({ sandboxId, ...first });
  });

  test('eight pods come and go at once', async () => {
    await configure(dualStack({ type: 'portmap', capabilities: { portMappings: true } }));
    const attached = await Promise.all(
      Array.from({ length: 8 }, async (_, index) => {
        const netns = await makeNamespace();
        const portMappings = [{ protocol: 'tcp', containerPort: 80, hostPort: HOST_PORT + index, hostIp: '' }] as const;
        return { netns, ...(await attach(netns, { portMappings })) };
      }),
    );
    expect(new Set(attached.flatMap(({ ips }) => ips)).size).toBe(16);
    expect(new Set(attached.flatMap(({ interfaces }) => interfaces.map(({ mac }) => mac))).size).toBe(8);
    await Promise.all(attached.map(({ sandboxId, netns }) => networks.detach(sandboxId, netns)));
    const rules = await natRules();
    for (const { sandboxId } of attached) expect(rules).not.toContain(sandboxId);
    expect(await leases()).toEqual([]);
  });

  test("the namespace's own stack stays silent behind the join", async () => {
    const { ips } = await attach(await makeNamespace());
    // A stack that saw the packet would refuse the connection at once.
    for (const ip of ips) {
      await expect(exchange(ip, PORT, Buffer.from('x'))).rejects.toThrow(/EHOSTUNREACH|no answer/);
    }
  });

  test.each([
    ['with checksum and segmentation offload', true],
    ['without', false],
  ])('host and pod talk over IPv4 and IPv6, %s', async (_how, offloads) => {
    const { network: attached, netns } = await pod(offloads);
    const data = randomBytes(4 << 20);
    for (const ip of attached.ips) expect((await exchange(ip, PORT, data)).equals(data)).toBe(true);
    const { stdout } = await execa('nsenter', [
      `--net=${netns}`,
      'ip',
      '-json',
      '-statistics',
      'link',
      'show',
      TAP_NAME,
    ]);
    const [
      {
        stats64: { rx, tx },
      },
    ] = JSON.parse(stdout) as [{ stats64: Record<'rx' | 'tx', { bytes: number; packets: number }> }];
    // Segments larger than the MTU crossed the tap whole, in both directions, or none did.
    expect(rx.bytes / rx.packets > 1400).toBe(offloads);
    expect(tx.bytes / tx.packets > 1400).toBe(offloads);
  });

  test('pods talk to each other and to themselves', async () => {
    const [a, b] = [await pod(), await pod()];
    const data = randomBytes(2 << 20);
    for (const [from, to] of [
      [a, b],
      [b, a],
      [a, a],
    ] as const) {
      for (const ip of to.network.ips) expect((await exchangeIn(from.guest, ip, data)).equals(data)).toBe(true);
    }
  });

  test('pods reach the outside, masqueraded, and the rules go with them', async () => {
    servers.push(echo(outside));
    const { guest, sandboxId, netns } = await pod();
    const data = randomBytes(1 << 20);
    // The outside has no route to the pods' subnet.
    expect((await exchangeIn(guest, '203.0.113.2', data)).equals(data)).toBe(true);
    expect(await natRules()).toContain(sandboxId);
    await networks.detach(sandboxId, netns);
    expect(await natRules()).not.toContain(sandboxId);
  });

  test('host ports lead to the pod until DEL', async () => {
    await configure(dualStack({ type: 'portmap', capabilities: { portMappings: true } }));
    const netns = await makeNamespace();
    const attached = await attach(netns, {
      portMappings: [
        { protocol: 'tcp', containerPort: PORT, hostPort: HOST_PORT, hostIp: '' },
        { protocol: 'tcp', containerPort: 9, hostPort: 0, hostIp: '' },
      ],
    });
    const guest = await TapGuest.start(`kelyfos-test-vm-${unique}`, netns, TAP_NAME, true);
    guests.push(guest);
    await guest.configure(attached);
    servers.push(echo(guest.name));
    const data = randomBytes(1 << 20);
    await exchange(attached.ips[0]!, PORT, Buffer.from('up'));
    const argv = [`--net=/run/netns/${outside}`, 'socat', '-t', '10', 'STDIO', `TCP:203.0.113.1:${String(HOST_PORT)}`];
    const { stdout } = await execa('nsenter', argv, { encoding: 'buffer', input: data });
    expect(Buffer.from(stdout).equals(data)).toBe(true);
    expect(await natRules()).toContain(`--dport ${String(HOST_PORT)}`);
    await networks.detach(attached.sandboxId, netns);
    expect(await natRules()).not.toContain(String(HOST_PORT));
    await expect(execa('nsenter', argv, { input: '' })).rejects.toThrow('Connection refused');
  });

  test('chained tuning and bandwidth plugins are honoured', async () => {
    await configure(
      dualStack(
        { type: 'tuning', mac: '02:00:00:00:77:01', mtu: 1300 },
        { type: 'bandwidth', capabilities: { bandwidth: true } },
      ),
    );
    const netns = await makeNamespace();
    const before = await linkNames();
    const attached = await attach(netns, { bandwidth: { ingressRate: 8_000_000, egressRate: 8_000_000 } });
    expect(attached.interfaces).toMatchObject([{ mac: '02:00:00:00:77:01', mtu: 1300 }]);
    const { stdout } = await execa('tc', ['qdisc', 'show']);
    expect(stdout.match(/tbf .*rate 8Mbit/g)).toHaveLength(2);
    await networks.detach(attached.sandboxId, netns);
    expect((await linkNames()).filter((name) => name !== bridge)).toEqual(before.filter((name) => name !== bridge));
  });

  test('a point-to-point network: the gateway is reached by a host route', async () => {
    const ipam = {
      type: 'host-local',
      dataDir: join(root, 'ipam'),
      subnet: '10.213.78.0/24',
      routes: [{ dst: '0.0.0.0/0' }],
    };
    await unlink(join(root, 'net.d', '10-test.conflist'));
    await writeFile(
      join(root, 'net.d', '20.conf'),
      JSON.stringify({ cniVersion: '0.3.1', name: network, type: 'ptp', ipMasq: true, ipam }),
    );
    const { network: attached, netns } = await pod();
    // Else it would tell all pods of the network of its multicast groups.
    expect(await ipv6IsOff(netns)).toBe(true);
    expect(attached.routes.map(({ destination, gateway }) => `${destination} ${gateway}`)).toEqual([
      '10.213.78.1/32 ',
      '0.0.0.0/0 10.213.78.1',
      '10.213.78.0/24 10.213.78.1',
    ]);
    const data = randomBytes(1 << 20);
    expect((await exchange(attached.ips[0]!, PORT, data)).equals(data)).toBe(true);
  });

  test('detach uses what attach has recorded, by another daemon, without the configuration; and again', async () => {
    await configure(dualStack({ type: 'portmap', capabilities: { portMappings: true } }));
    const netns = await makeNamespace();
    const { sandboxId } = await attach(netns, {
      portMappings: [{ protocol: 'udp', containerPort: 53, hostPort: HOST_PORT, hostIp: '' }],
    });
    expect(await leases()).toEqual(['10.213.77.2', 'fd00:213:77::2']);
    await unlink(join(root, 'net.d', '10-test.conflist'));
    const later = makeNetworks();
    await later.detach(sandboxId, netns);
    await later.detach(sandboxId, netns);
    expect(await natRules()).not.toContain(sandboxId);
    expect(await leases()).toEqual([]);
    expect(await readdir(join(root, 'results'))).toEqual([]);
    const { stdout } = await execa('nsenter', [`--net=${netns}`, 'ip', '-brief', 'link']);
    expect(stdout).not.toContain('eth0');
  });

  test('an address is given back although namespace and record are gone', async () => {
    const vm = randomBytes(8).toString('hex');
    const netns = await namespaces.create(vm);
    const { sandboxId } = await attach(netns);
    await rm(join(root, 'results'), { recursive: true });
    await namespaces.remove(vm);
    await networks.detach(sandboxId, netns);
    expect(await leases()).toEqual([]);
    await removeMasquerade(sandboxId);
  });

  test('a plugin that fails in the middle leaves nothing, and the next attach works', async () => {
    const netns = await makeNamespace();
    await configure(dualStack({ type: 'portmap', snat: 'not a boolean' }));
    await expect(attach(netns)).rejects.toThrow('CNI plugin portmap (ADD)');
    const [failed] = [...sandboxes.keys()];
    // DEL of the broken plugin fails as well, so that the bridge's has not run yet.
    await configure(dualStack());
    expect(await leases()).toHaveLength(2);
    await expect(networks.detach(failed!, netns)).rejects.toThrow('CNI plugin portmap (DEL)');
    await rm(join(root, 'results'), { recursive: true });
    await networks.detach(failed!, netns);
    sandboxes.clear();
    expect(await leases()).toEqual([]);
    const second = await attach(netns);
    expect(second.ips).toHaveLength(2);
  });

  async function leases(): Promise<readonly string[]> {
    return (await readdir(join(root, 'ipam', network))).filter((name) => /^(10\.|fd00)/.test(name)).sort();
  }
});

/** For the pod's interface, in the namespace's own stack. */
async function ipv6IsOff(netns: string): Promise<boolean> {
  const { stdout } = await execa('nsenter', [`--net=${netns}`, 'sysctl', '-n', 'net.ipv6.conf.eth0.disable_ipv6']);
  return stdout === '1';
}

async function natRules(): Promise<string> {
  const saved = await Promise.all([execa('iptables-save', ['-t', 'nat']), execa('ip6tables-save', ['-t', 'nat'])]);
  return saved.map(({ stdout }) => stdout).join('\n');
}

async function linkNames(): Promise<readonly string[]> {
  const { stdout } = await execa('ip', ['-json', 'link', 'show']);
  return (JSON.parse(stdout) as { ifname: string }[]).map(({ ifname }) => ifname);
}

/** Sends, closes its side, and reads until the peer closes. */
async function exchange(host: string, port: number, data: Buffer): Promise<Buffer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await once(host, port, data);
    } catch (error) {
      // The server in the guest is starting.
      if (!String(error).includes('ECONNREFUSED') || attempt === 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

function once(host: string, port: number, data: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const socket = connect({ host, port });
    socket.setTimeout(10_000, () => socket.destroy(new Error(`no answer from ${host}`)));
    socket.on('error', reject);
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => {
      resolve(Buffer.concat(chunks));
    });
    socket.end(data);
  });
}

function exchangeIn(guest: TapGuest, ip: string, data: Buffer): Promise<Buffer> {
  const address = ip.includes(':') ? `TCP6:[${ip}]` : `TCP4:${ip}`;
  const argv = ['socat', '-t', '10', 'STDIO', `${address}:${String(PORT)},retry=50,interval=0.1,connect-timeout=5`];
  return guest.exec(argv, data);
}

/** The portmap plugin never removes its own chains; a test must. */
async function removePortChains(): Promise<void> {
  for (const tool of ['iptables', 'ip6tables']) {
    const { stdout } = await execa(`${tool}-save`, ['-t', 'nat']);
    const lines = stdout.split('\n');
    for (const line of lines.filter((each) => /^-A (PREROUTING|OUTPUT|POSTROUTING) .*CNI-HOSTPORT-/.test(each))) {
      await execa(tool, ['-t', 'nat', '-D', ...words(line.slice(3))]);
    }
    const chains = lines.flatMap((each) => /^:(CNI-HOSTPORT-\w+)/.exec(each)?.[1] ?? []);
    for (const chain of chains) await execa(tool, ['-t', 'nat', '-F', chain]);
    for (const chain of chains) await execa(tool, ['-t', 'nat', '-X', chain]);
  }
}

/** The bridge plugin of Debian 12 leaves its masquerade rules when the namespace is gone before DEL. */
async function removeMasquerade(sandboxId: string): Promise<void> {
  for (const tool of ['iptables', 'ip6tables']) {
    const { stdout } = await execa(`${tool}-save`, ['-t', 'nat']);
    const rules = stdout.split('\n').filter((each) => each.startsWith('-A POSTROUTING') && each.includes(sandboxId));
    for (const rule of rules) {
      await execa(tool, ['-t', 'nat', '-D', ...words(rule.slice(3))]);
      const chain = /-j (CNI-\w+)/.exec(rule)?.[1] ?? '';
      await execa(tool, ['-t', 'nat', '-F', chain]);
      await execa(tool, ['-t', 'nat', '-X', chain]);
    }
  }
}

/** Splits a line of iptables-save, whose comments are quoted. */
function words(line: string): readonly string[] {
  return [...line.matchAll(/"((?:\\.|[^"])*)"|\S+/g)].map(([word, quoted]) => quoted?.replaceAll('\\"', '"') ?? word);
}
