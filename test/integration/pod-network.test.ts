import { createServer, get } from 'node:http';
import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { TestNode, type Pod } from '../harness/node.ts';

/** Packets between host, pods and the outside, through real plugins and real virtual machines. */
let node: TestNode;
let pod: Pod;
let server: string;
const hostPort = 28_437;

beforeAll(async () => {
  node = await TestNode.start();
  pod = await node.runPod({
    name: 'server',
    config: { port_mappings: [{ protocol: 'TCP', container_port: 8080, host_port: hostPort }] },
  });
  server = await node.startContainer(pod, { command: ['httpd', '-f', '-p', '8080', '-h', '/www'] });
  await node.sh(server, 'until wget -q -O- http://127.0.0.1:8080/ > /dev/null; do usleep 20000; done');
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

async function fetchText(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get(url, { timeout: 10_000 }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
      response.on('end', () => {
        resolve(body);
      });
    }).on('error', reject);
  });
}

async function ipOf(which: Pod): Promise<string> {
  return (await node.podStatus(which)).network?.ip ?? '';
}

test('host to pod', async () => {
  expect(await fetchText(`http://${await ipOf(pod)}:8080/`)).toContain('It works');
});

test('host port to pod', async () => {
  const address = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal);
  expect(await fetchText(`http://${address?.address ?? ''}:${String(hostPort)}/`)).toContain('It works');
});

test('pod to pod, and pod to host', async () => {
  const other = await node.runPod({ name: 'client' });
  const client = await node.startContainer(other);
  expect(await node.sh(client, `wget -q -O- http://${await ipOf(pod)}:8080/`)).toContain('It works');
  expect(await ipOf(other)).not.toBe(await ipOf(pod));
  const web = createServer((_request, response) => {
    response.end('from the host');
  });
  await new Promise<void>((resolve) => web.listen(0, '0.0.0.0', resolve));
  try {
    const { port } = web.address() as { port: number };
    const gateway = await node.sh(client, "ip route | awk '/^default/ {print $3}'");
    expect(await node.sh(client, `wget -q -O- http://${gateway}:${String(port)}/`)).toBe('from the host');
  } finally {
    web.close();
  }
  await node.removePod(other);
});

test('what the guest has is what the plugins gave', async () => {
  expect(await node.sh(server, 'ip -o -4 address show dev eth0')).toContain(await ipOf(pod));
  expect(await node.sh(server, 'cat /sys/class/net/eth0/mtu')).toBe('1500');
});

test('a large transfer in both directions keeps every byte', async () => {
  const bytes = 8 << 20;
  const other = await node.runPod({ name: 'bulk' });
  const id = await node.startContainer(other, {
    command: ['sh', '-c', `head -c ${String(bytes)} /dev/urandom > /tmp/a; nc -l -p 9000 < /tmp/a`],
  });
  const sum = await node.sh(
    id,
    'while [ "$(stat -c %s /tmp/a)" != ' + String(bytes) + ' ]; do usleep 50000; done; md5sum < /tmp/a',
  );
  const received = await node.sh(server, `nc ${await ipOf(other)} 9000 < /dev/null | md5sum`);
  expect(received).toBe(sum);
  await node.removePod(other);
});
