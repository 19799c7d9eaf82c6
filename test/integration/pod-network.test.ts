import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { fetchText, hostAddress } from '../harness/http.ts';
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

async function ipOf(which: Pod): Promise<string> {
  return (await node.podStatus(which)).network?.ip ?? '';
}

test('host to pod', async () => {
  expect(await fetchText(`http://${await ipOf(pod)}:8080/`)).toContain('It works');
});

test('host port to pod', async () => {
  expect(await fetchText(`http://${hostAddress()}:${String(hostPort)}/`)).toContain('It works');
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

test('large transfers keep every byte: pod to pod, pod to host, host to pod', async () => {
  const bytes = 8 << 20;
  const sum = await node.sh(server, `head -c ${String(bytes)} /dev/urandom > /www/big; md5sum < /www/big`);
  const other = await node.runPod({ name: 'bulk' });
  const client = await node.startContainer(other);
  const url = `http://${await ipOf(pod)}:8080/big`;
  expect(await node.sh(client, `wget -q -O- ${url} | md5sum`)).toBe(sum);
  const body = Buffer.from(await (await fetch(url)).arrayBuffer());
  expect(`${createHash('md5').update(body).digest('hex')}  -`).toBe(sum);
  const web = createServer((_request, response) => {
    response.end(body);
  });
  await new Promise<void>((resolve) => web.listen(0, '0.0.0.0', resolve));
  try {
    const { port } = web.address() as { port: number };
    const gateway = await node.sh(client, "ip route | awk '/^default/ {print $3}'");
    expect(await node.sh(client, `wget -q -O- http://${gateway}:${String(port)}/ | md5sum`)).toBe(sum);
  } finally {
    web.close();
  }
  await node.removePod(other);
});
