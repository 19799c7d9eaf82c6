import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, request } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { WebSocket } from 'ws';
import { AppError } from '../../platform/errors.ts';
import { silentLog } from '../../platform/log.ts';
import { FakeDomain } from '../fake-domain.ts';
import type { ContainerId, SandboxId } from '../../podsandbox/ids.ts';
import { containerConfig, sandboxConfig } from '../fake-request.ts';
import { parseContainerConfig } from '../parse-container-config.ts';
import { parseSandboxConfig } from '../parse-sandbox-config.ts';
import { StreamingServer } from './server.ts';
import type { AskedStreams } from './stream-request.ts';

let domain: FakeDomain;
let server: StreamingServer;
let sandboxId: SandboxId;
let containerId: ContainerId;

beforeEach(async () => {
  domain = new FakeDomain();
  const metadata = { name: 'app', uid: 'u', namespace: 'n', attempt: 0 };
  const never = new AbortController().signal;
  sandboxId = await domain.sandboxes.run(parseSandboxConfig(sandboxConfig({ metadata })), '', never);
  domain.addImage({ id: 'sha256:1' });
  const config = { metadata: { name: 'app', attempt: 0 }, image: { image: 'sha256:1' }, stdin: true };
  containerId = await domain.containers.create(sandboxId, parseContainerConfig(containerConfig(config)), never);
  await domain.containers.start(containerId, never);
  server = await StreamingServer.start({ address: '127.0.0.1', port: 0, tls: undefined }, domain, silentLog());
});

afterEach(async () => {
  await server.close(100);
});

const all: AskedStreams = { stdin: true, stdout: true, stderr: true, tty: false };

const execUrl = (streams: Partial<AskedStreams> = {}): string =>
  server.urlFor({ kind: 'exec', containerId, argv: ['x'], streams: { ...all, ...streams } });

/** The answer to a plain request, or to one for an upgrade that is refused. */
async function ask(url: string, headers: Record<string, string> = {}): Promise<{ status: number; text: string }> {
  const asked = request(url, { headers, method: 'POST' });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode ?? 0, text };
}

const spdy = (protocol: string): Record<string, string> => ({
  connection: 'Upgrade',
  upgrade: 'SPDY/3.1',
  'x-stream-protocol-version': protocol,
});

describe('connections that are refused', () => {
  test('unknown tokens, other paths, and tokens of another kind', async () => {
    const { origin, pathname } = new URL(execUrl());
    const token = pathname.split('/')[2] ?? '';
    for (const path of [
      '/',
      '/exec/',
      '/exec/12345678',
      `/attach/${token}`,
      `/exec/${token}/more`,
      `/exec/${token}x`,
    ]) {
      expect(await ask(`${origin}${path}`)).toMatchObject({ status: 404 });
      expect(await ask(`${origin}${path}`, spdy('v4.channel.k8s.io'))).toMatchObject({ status: 404 });
    }
  });

  test('no upgrade, or to something else; the token is used up', async () => {
    const url = execUrl();
    expect(await ask(url)).toEqual({ status: 400, text: 'an upgrade to SPDY/3.1 or websocket is needed\n' });
    expect(await ask(url)).toMatchObject({ status: 404 });
    expect(await ask(execUrl(), { connection: 'Upgrade', upgrade: 'h2c' })).toMatchObject({ status: 400 });
  });

  test('protocols that nobody knows', async () => {
    expect(await ask(execUrl(), spdy('v9.channel.k8s.io'))).toMatchObject({
      status: 403,
      text: expect.stringContaining('v9.channel.k8s.io') as unknown,
    });
    const socket = new WebSocket(execUrl(), ['v9.channel.k8s.io']);
    const [error] = (await once(socket, 'error')) as [Error];
    expect(error.message).toContain('403');
  });
});

/** A client in WebSocket messages: first the channel, then data. */
class Client {
  readonly socket: WebSocket;
  readonly messages: { readonly channel: number; readonly text: string }[] = [];
  readonly closed: Promise<unknown>;
  readonly #base64: boolean;

  constructor(url: string, protocol: string) {
    this.#base64 = protocol.includes('base64');
    this.socket = new WebSocket(url, protocol === '' ? [] : [protocol]);
    this.socket.on('message', (raw: Buffer) => {
      const text = this.#base64 ? Buffer.from(raw.toString('latin1', 1), 'base64') : raw.subarray(1);
      const channel = this.#base64 ? Number(raw.toString('latin1', 0, 1)) : (raw[0] ?? -1);
      this.messages.push({ channel, text: text.toString('latin1') });
    });
    this.closed = once(this.socket, 'close');
  }

  send(channel: number, data: string | Buffer): void {
    const bytes = Buffer.from(data);
    if (this.#base64) this.socket.send(`${String(channel)}${bytes.toString('base64')}`);
    else this.socket.send(Buffer.concat([Buffer.from([channel]), bytes]));
  }

  text(channel: number): string {
    return this.messages
      .filter((message) => message.channel === channel)
      .map(({ text }) => text)
      .join('');
  }
}

describe('commands over WebSocket', () => {
  test.each([
    'v5.channel.k8s.io',
    'v4.channel.k8s.io',
    'v4.base64.channel.k8s.io',
    'channel.k8s.io',
    'base64.channel.k8s.io',
    '',
  ])('protocol "%s"', async (protocol) => {
    domain.session = async ({ stdin, stdout, stderr }) => {
      stderr?.write('complaint');
      for await (const chunk of stdin ?? []) {
        const text = String(chunk);
        stdout?.write(text.toUpperCase());
        if (text.endsWith('\n')) break;
      }
      return 3;
    };
    const client = new Client(execUrl(), protocol);
    await once(client.socket, 'open');
    expect(client.socket.protocol).toBe(protocol);
    client.send(0, 'word\n');
    await client.closed;
    // The sign that all is well.
    expect(client.messages[0]).toEqual({ channel: 1, text: '' });
    expect([client.text(1), client.text(2)]).toEqual(['WORD\n', 'complaint']);
    if (protocol.startsWith('v')) {
      expect(JSON.parse(client.text(3))).toMatchObject({
        status: 'Failure',
        reason: 'NonZeroExitCode',
        details: { causes: [{ reason: 'ExitCode', message: '3' }] },
      });
    } else {
      expect(client.text(3)).toContain('exit status 3');
    }
  });

  test('v5: the end of input', async () => {
    domain.session = async ({ stdin, stdout }) => {
      let text = '';
      for await (const chunk of stdin ?? []) text += String(chunk);
      stdout?.write(`<${text}>`);
      return 0;
    };
    const client = new Client(execUrl(), 'v5.channel.k8s.io');
    await once(client.socket, 'open');
    client.send(0, 'all');
    client.send(255, Buffer.from([0]));
    await client.closed;
    expect(client.text(1)).toBe('<all>');
    expect(JSON.parse(client.text(3))).toMatchObject({ status: 'Success' });
  });

  test('sizes of the terminal; those that are none are left out', async () => {
    const sizes: unknown[] = [];
    domain.session = async ({ resizes }) => {
      for await (const size of resizes ?? []) {
        sizes.push(size);
        if (sizes.length === 2) break;
      }
      return 0;
    };
    const client = new Client(execUrl({ tty: true, stderr: false }), 'v5.channel.k8s.io');
    await once(client.socket, 'open');
    client.send(4, '{"Width":0,"Height":0}{"Width":80,"Hei');
    client.send(4, 'ght":24}');
    client.send(4, '{"Width":81,"Height":25}');
    await client.closed;
    expect(sizes).toEqual([
      { width: 80, height: 24 },
      { width: 81, height: 25 },
    ]);
  });

  test('what cannot be started is told, and a client that goes is noticed', async () => {
    domain.session = async () => {
      throw new AppError('failed-precondition', 'no such program');
    };
    const failing = new Client(execUrl(), 'v4.channel.k8s.io');
    await failing.closed;
    expect(JSON.parse(failing.text(3))).toMatchObject({ status: 'Failure', message: 'no such program', code: 500 });

    const aborted = Promise.withResolvers<undefined>();
    domain.session = async (_, signal) => {
      signal.addEventListener('abort', () => {
        aborted.resolve(undefined);
      });
      await aborted.promise;
      return 0;
    };
    const leaving = new Client(execUrl(), 'v4.channel.k8s.io');
    await once(leaving.socket, 'open');
    leaving.socket.terminate();
    await aborted.promise;
  });
});

test('ports over WebSocket without SPDY: two channels for each, which begin with the port', async () => {
  domain.listener = async (port, stream) => {
    if (port === 81) throw new AppError('failed-precondition', 'connection refused');
    const [chunk] = (await once(stream, 'data')) as [Buffer];
    stream.write(`${String(port)} ${chunk.toString()}`);
  };
  const client = new Client(server.urlFor({ kind: 'portforward', sandboxId, ports: [80, 81] }), 'v4.channel.k8s.io');
  await once(client.socket, 'open');
  client.send(0, 'ping');
  await client.closed;
  expect(client.text(0)).toBe('P\x0080 ping');
  expect(client.text(1)).toBe('P\x00');
  expect(client.text(2)).toBe('Q\x00');
  expect(client.text(3)).toBe(`Q\x00error forwarding port 81 to pod sandbox ${sandboxId}: connection refused`);
});

test('with a certificate everything is TLS', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kelyfos-tls-'));
  try {
    const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
    const files = ['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', keyFile, '-out', certFile];
    await execa('openssl', ['req', '-x509', '-nodes', '-subj', '/CN=localhost', ...curve, ...files]);
    const tls = { key: await readFile(keyFile, 'utf8'), cert: await readFile(certFile, 'utf8') };
    await using safe = await StreamingServer.start({ address: '127.0.0.1', port: 0, tls }, domain, silentLog()).then(
      (started) => ({ started, [Symbol.asyncDispose]: () => started.close(100) }),
    );
    const url = safe.started.urlFor({ kind: 'exec', containerId, argv: ['x'], streams: all });
    expect(url).toMatch(/^https:/);
    domain.session = async () => 5;
    const socket = new WebSocket(url, ['v4.channel.k8s.io'], { ca: tls.cert });
    let text = '';
    socket.on('message', (message: Buffer) => (text += message.toString()));
    await once(socket, 'close');
    expect(text).toContain('exit status 5');
    const plain = new WebSocket(url.replace('https:', 'http:'), ['v4.channel.k8s.io']);
    await once(plain, 'error');
  } finally {
    await rm(folder, { recursive: true });
  }
});

describe('another streaming server behind this one', () => {
  test('settles everything with the client itself', async () => {
    const seen: IncomingMessage[] = [];
    const other = createServer().listen(0, '127.0.0.1');
    other.on('upgrade', (incoming: IncomingMessage, socket: Socket) => {
      seen.push(incoming);
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n');
      socket.pipe(socket);
    });
    await once(other, 'listening');
    const relay = new URL(`http://127.0.0.1:${String((other.address() as AddressInfo).port)}/portforward/abc?x=1`);
    const asked = request(server.urlFor({ kind: 'portforward', relay }), {
      headers: spdy('portforward.k8s.io'),
      method: 'POST',
    });
    asked.end();
    const [, socket] = (await once(asked, 'upgrade')) as [IncomingMessage, Socket];
    socket.end('there and back');
    let text = '';
    for await (const chunk of socket) text += String(chunk);
    expect(text).toBe('there and back');
    expect(seen[0]).toMatchObject({ url: '/portforward/abc?x=1', headers: { host: relay.host, upgrade: 'SPDY/3.1' } });
    other.close();
  });

  test('that does not answer ends the connection', async () => {
    const relay = new URL('http://127.0.0.1:1/portforward/abc');
    const asked = request(server.urlFor({ kind: 'portforward', relay }), { headers: spdy('portforward.k8s.io') });
    asked.end();
    const [error] = (await once(asked, 'error')) as [Error];
    expect(error.message).toMatch(/hang up|reset/);
  });
});
