import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { TestNode, type Pod } from '../harness/node.ts';
import { startProcess, type StartedProcess } from '../harness/started-process.ts';

/** IPv4 and IPv6 side by side, on a bridge with a smaller MTU, through real plugins and real virtual machines. */
const unique = randomBytes(3).toString('hex');
const outside = `kelyfos-test-out-${unique}`;
const link = `kto${unique}`;
const outsidePort = 7_001;
let node: TestNode;
let server: Pod;
let serverContainer: string;
let client: string;
let echo: StartedProcess;

interface Family {
  readonly name: string;
  readonly flag: string;
  /** Host and outside on the link between them. */
  readonly host: string;
  readonly outside: string;
  readonly prefixLength: string;
  readonly url: (address: string) => string;
  readonly podIp: () => Promise<string>;
  readonly gateway: () => string;
}

const families: readonly Family[] = [
  {
    name: 'IPv4',
    flag: '-4',
    host: '198.51.100.1',
    outside: '198.51.100.2',
    prefixLength: '30',
    url: (address) => address,
    podIp: async () => (await node.podStatus(server)).network?.ip ?? '',
    gateway: () => node.network.gateway,
  },
  {
    name: 'IPv6',
    flag: '-6',
    host: '2001:db8:6b65::1',
    outside: '2001:db8:6b65::2',
    prefixLength: '64',
    url: (address) => `[${address}]`,
    podIp: async () => (await node.podStatus(server)).network?.additional_ips[0]?.ip ?? '',
    gateway: () => node.network.gateway6,
  },
];

beforeAll(async () => {
  await makeOutside();
  node = await TestNode.start({
    network: { dualStack: true, mtu: 1400 },
    config: { vm: { classes: { default: { pool: 0 } } } },
  });
  server = await node.runPod({ name: 'server' });
  serverContainer = await node.startContainer(server, { command: ['httpd', '-f', '-p', '8080', '-h', '/www'] });
  await node.sh(serverContainer, 'until wget -q -O- http://127.0.0.1:8080/ > /dev/null; do usleep 20000; done');
  client = await node.startContainer(await node.runPod({ name: 'client' }));
}, 180_000);

afterAll(async () => {
  await node[Symbol.asyncDispose]();
  echo.signal('SIGKILL');
  await echo.ended(5_000);
  await execa('ip', ['netns', 'delete', outside]);
  await execa('ip', ['link', 'delete', link], { reject: false });
});

/** A machine beyond the host that knows no way back to the pods: it answers the host's own address only. */
async function makeOutside(): Promise<void> {
  await execa('ip', ['netns', 'add', outside]);
  await execa('ip', ['link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', outside]);
  const batch = ['link set lo up'];
  for (const { host, outside: there, prefixLength } of families) {
    const options = there.includes(':') ? ['nodad'] : [];
    await execa('ip', ['address', 'add', `${host}/${prefixLength}`, 'dev', link, ...options]);
    batch.push(['address add', `${there}/${prefixLength}`, 'dev eth0', ...options].join(' '));
  }
  await execa('ip', ['link', 'set', link, 'up']);
  await execa('ip', ['-n', outside, '-batch', '-'], { input: `${batch.join('\n')}\nlink set eth0 up\n` });
  const listen = `TCP6-LISTEN:${String(outsidePort)},ipv6only=0,fork,reuseaddr`;
  echo = await startProcess(
    'nsenter',
    [`--net=/run/netns/${outside}`, 'socat', listen, 'SYSTEM:echo seen $SOCAT_PEERADDR'],
    { logFile: '/dev/null' },
  );
}

/** One way to write an address: as IPv6, shortened. */
function canonical(address: string): string {
  return new URL(`http://[${address.includes(':') ? address : `::ffff:${address}`}]`).hostname;
}

describe.each(families)('$name', ({ flag, url, podIp, gateway, host, outside: there }) => {
  test('host to pod', async () => {
    expect(await (await fetch(`http://${url(await podIp())}:8080/`)).text()).toContain('It works');
  });

  test('pod to pod', async () => {
    const address = await podIp();
    expect(await node.sh(client, `wget -q -O- http://${url(address)}:8080/`)).toContain('It works');
    expect(await node.sh(client, `ping ${flag} -c 2 -W 5 -s 1300 ${address}`)).toMatch(/ 0% packet loss/);
  });

  test('pod to host', async () => {
    const web = createServer((_request, response) => {
      response.end('from the host');
    });
    await new Promise<void>((resolve) => web.listen(0, '::', resolve));
    try {
      const { port } = web.address() as { port: number };
      expect(await node.sh(client, `wget -q -O- http://${url(gateway())}:${String(port)}/`)).toBe('from the host');
    } finally {
      web.close();
    }
  });

  test('pod to the outside, behind the address of the host', async () => {
    const seen = await node.sh(client, `nc -w 5 ${there} ${String(outsidePort)} < /dev/null`);
    expect(canonical(/^seen \[(.*)\]$/.exec(seen)?.[1] ?? seen)).toBe(canonical(host));
  });
});

test('status and guest have both addresses, and the MTU of the bridge', async () => {
  const [v4, v6] = [await families[0]?.podIp(), await families[1]?.podIp()];
  expect((await node.podStatus(server)).network).toEqual({ ip: v4, additional_ips: [{ ip: v6 }] });
  expect(v4).toContain(`${node.network.prefix}.`);
  const addresses = await node.sh(serverContainer, 'ip -o address show dev eth0');
  expect(addresses).toContain(`${String(v4)}/24`);
  expect(addresses).toContain(`${String(v6)}/64`);
  expect(addresses).not.toMatch(/tentative|dadfailed/);
  expect(await node.sh(serverContainer, 'cat /sys/class/net/eth0/mtu')).toBe('1400');
});

test('a transfer of full packets keeps every byte, over both families', async () => {
  const sum = await node.sh(serverContainer, 'head -c 2000000 /dev/urandom > /www/big; md5sum < /www/big');
  for (const { url, podIp } of families) {
    expect(await node.sh(client, `wget -q -O- http://${url(await podIp())}:8080/big | md5sum`)).toBe(sum);
  }
});
