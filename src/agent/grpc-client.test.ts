import * as http2 from 'node:http2';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type Client, Code, ConnectError, type ServiceImpl } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { Agent, Channel } from './gen/agent/v1/agent_pb.js';
import { grpcClient } from './grpc-client.ts';

/** Against connect's own server of gRPC. */
type Served = Partial<ServiceImpl<typeof Agent>>;

const maxMessageBytes = 1024 * 1024;
/** More than a socket holds. */
const windowBytes = 16 * 1024 * 1024;
let folder: string;
let server: http2.Http2Server | undefined;
let session: http2.ClientHttp2Session;
let lossReason: string | undefined;
/** Passes everything on between the two. */
let proxy: Server;
/** The proxy's end towards the client. */
let line: Socket;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-grpc-'));
  lossReason = undefined;
});

afterEach(async () => {
  session.destroy();
  proxy.close();
  server?.close();
  await rm(folder, { recursive: true });
});

async function listen(served: http2.Http2Server): Promise<Client<typeof Agent>> {
  server = served;
  server.on('session', (accepted: http2.ServerHttp2Session) => {
    accepted.setLocalWindowSize(windowBytes);
  });
  const socket = join(folder, 'socket');
  server.listen(socket);
  await once(server, 'listening');
  proxy = createServer((near) => {
    line = near;
    const far = connect(socket);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.pipe(to);
      from.on('error', () => undefined);
      from.on('close', () => to.destroy());
    }
  });
  const proxied = join(folder, 'proxy');
  proxy.listen(proxied);
  await once(proxy, 'listening');
  session = http2.connect('http://agent', { path: proxied });
  session.on('error', (error: Error) => {
    lossReason ??= error.message;
  });
  session.on('close', () => {
    lossReason ??= 'closed';
  });
  await once(session, 'connect');
  const connection = {
    request: (headers: http2.OutgoingHttpHeaders) => session.request(headers),
    get lossReason() {
      return lossReason ?? (session.destroyed ? 'closed' : undefined);
    },
  };
  return grpcClient(Agent, connection, maxMessageBytes);
}

function serve(served: Served): Promise<Client<typeof Agent>> {
  return listen(
    http2.createServer(
      { settings: { initialWindowSize: windowBytes } },
      connectNodeAdapter({
        routes: (router) => {
          router.service(Agent, served);
        },
      }),
    ),
  );
}

/** A server that says nothing but what is written here. */
function scripted(answer: (stream: http2.ServerHttp2Stream) => void): Promise<Client<typeof Agent>> {
  const plain = http2.createServer();
  plain.on('stream', (stream) => {
    stream.on('error', () => undefined);
    answer(stream);
  });
  return listen(plain);
}

async function failure(work: Promise<unknown>): Promise<readonly [code: string | undefined, message: string]> {
  try {
    await work;
  } catch (error) {
    return error instanceof ConnectError ? [Code[error.code], error.rawMessage] : [undefined, String(error)];
  }
  throw new Error('it did not fail');
}

async function all<T>(messages: AsyncIterable<T>): Promise<readonly T[]> {
  const found: T[] = [];
  for await (const message of messages) found.push(message);
  return found;
}

async function* endless(): AsyncGenerator<{ readonly acknowledged: bigint }> {
  yield { acknowledged: 0n };
  await new Promise(() => undefined);
}

describe('one message for another', () => {
  test('small and larger than any frame', async () => {
    const client = await serve({
      listContainers: () => ({ containers: [{ id: 'x'.repeat(300_000) }, { id: 'y' }] }),
      startContainer: ({ id }) => ({ startedAtNs: BigInt(id.length) }),
    });
    const { containers } = await client.listContainers({});
    expect(containers.map(({ id }) => id.length)).toEqual([300_000, 1]);
    expect((await client.startContainer({ id: 'z'.repeat(100_000) })).startedAtNs).toBe(100_000n);
  });

  test('many at once', async () => {
    const client = await serve({ startContainer: ({ id }) => ({ startedAtNs: BigInt(id) }) });
    const numbers = Array.from({ length: 300 }, (_, index) => index);
    const answers = await Promise.all(numbers.map((id) => client.startContainer({ id: String(id) })));
    expect(answers.map(({ startedAtNs }) => Number(startedAtNs))).toEqual(numbers);
  });

  test('an error has the code and the text of the server', async () => {
    const client = await serve({
      startContainer: () => {
        throw new ConnectError('container "ä%" is gone\n', Code.NotFound);
      },
    });
    expect(await failure(client.startContainer({ id: 'x' }))).toEqual(['NotFound', 'container "ä%" is gone\n']);
    expect((await failure(client.hello({})))[0]).toBe('Unimplemented');
  });

  test('a message that is too large is refused', async () => {
    const client = await serve({ listContainers: () => ({ containers: [{ id: 'x'.repeat(maxMessageBytes) }] }) });
    const [code, message] = await failure(client.listContainers({}));
    expect([code, message]).toEqual(['ResourceExhausted', expect.stringContaining('more than the 1048576')]);
  });

  test('cancelled before and meanwhile; the server hears of it', async () => {
    const began = Promise.withResolvers<AbortSignal>();
    const client = await serve({
      hello: async (_request, { signal }) => {
        began.resolve(signal);
        await once(signal, 'abort');
        return {};
      },
    });
    expect(await failure(client.hello({}, { signal: AbortSignal.abort() }))).toEqual(['Canceled', 'cancelled']);
    const controller = new AbortController();
    const call = failure(client.hello({}, { signal: controller.signal }));
    const seen = await began.promise;
    controller.abort();
    expect(await call).toEqual(['Canceled', 'cancelled']);
    if (!seen.aborted) await once(seen, 'abort');
  });

  test('cancelled while the other side reads nothing', async () => {
    const client = await serve({ hello: () => ({}) });
    await client.hello({});
    line.unpipe();
    line.pause();
    // More than the socket holds, so that not even the news of the end gets out.
    const ids = Array.from({ length: 8 }, () => 'x'.repeat(900_000));
    const stuck = ids.map((id) => failure(client.startContainer({ id }, { signal: AbortSignal.timeout(200) })));
    expect((await Promise.all(stuck)).map(([code]) => code)).toEqual(ids.map(() => 'Canceled'));
    const records = client.output(endless(), { signal: AbortSignal.timeout(100) })[Symbol.asyncIterator]();
    expect((await failure(records.next()))[0]).toBe('Canceled');
  });

  test('a connection that is lost is unavailable, then and later', async () => {
    const client = await serve({
      hello: async () => {
        line.destroy();
        await new Promise(() => undefined);
        return {};
      },
    });
    expect((await failure(client.hello({})))[0]).toBe('Unavailable');
    expect((await failure(client.hello({})))[0]).toBe('Unavailable');
  });

  test.each([
    ['no status', (stream: http2.ServerHttp2Stream) => (stream.respond({ ':status': 200 }), stream.end()), 'Internal'],
    [
      'another HTTP status',
      (stream: http2.ServerHttp2Stream) => (stream.respond({ ':status': 503 }), stream.end()),
      'Unknown',
    ],
    ['no message', status({ 'grpc-status': '0' }), 'Internal'],
    ['a status that there is not', status({ 'grpc-status': '99' }), 'Unknown'],
    [
      'a refused stream',
      (stream: http2.ServerHttp2Stream) => {
        stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
      },
      'Unavailable',
    ],
    [
      'a compressed message',
      (stream: http2.ServerHttp2Stream) => (
        stream.respond({ ':status': 200 }),
        stream.end(Buffer.from([1, 0, 0, 0, 0]))
      ),
      'Internal',
    ],
  ])('%s', async (_what, answer, code) => {
    const client = await scripted((stream) => {
      answer(stream);
    });
    expect((await failure(client.hello({})))[0]).toBe(code);
  });
});

function status(headers: http2.OutgoingHttpHeaders): (stream: http2.ServerHttp2Stream) => void {
  return (stream) => {
    stream.respond({ ':status': 200, ...headers }, { endStream: true });
  };
}

describe('streams', () => {
  test('of requests have one answer', async () => {
    const client = await serve({
      writeStdin: async (requests) => {
        let written = 0n;
        for await (const { data } of requests) written += BigInt(data.length);
        return { written };
      },
    });
    async function* input(): AsyncGenerator<{ readonly data: Uint8Array }> {
      for (let count = 0; count < 50; count += 1) yield await Promise.resolve({ data: new Uint8Array(30_000) });
    }
    expect((await client.writeStdin(input())).written).toBe(1_500_000n);
  });

  test('of answers come whole and in order, however they are cut', async () => {
    const sizes = [0, 1, 70_000, 16_384, 5, 400_000];
    const client = await serve({
      async *output() {
        for (const size of sizes)
          yield await Promise.resolve({ data: new Uint8Array(size).fill(size), channel: Channel.STDERR });
      },
    });
    const records = await all(client.output(endless()));
    expect(records.map(({ data }) => data.length)).toEqual(sizes);
    expect(records.every(({ data }) => data.every((byte) => byte === (data.length & 255)))).toBe(true);
  });

  test('both ways', async () => {
    const client = await serve({
      async *output(requests) {
        for await (const { acknowledged } of requests) yield { sequence: acknowledged };
      },
    });
    async function* input(): AsyncGenerator<{ readonly acknowledged: bigint }> {
      for (const acknowledged of [3n, 2n, 1n]) yield await Promise.resolve({ acknowledged });
    }
    expect((await all(client.output(input()))).map(({ sequence }) => sequence)).toEqual([3n, 2n, 1n]);
  });

  test('an error after some messages', async () => {
    const client = await serve({
      async *output() {
        yield await Promise.resolve({ sequence: 1n });
        throw new ConnectError('no more', Code.ResourceExhausted);
      },
    });
    const seen: bigint[] = [];
    const reading = (async () => {
      for await (const { sequence } of client.output(endless())) seen.push(sequence);
    })();
    expect(await failure(reading)).toEqual(['ResourceExhausted', 'no more']);
    expect(seen).toEqual([1n]);
  });

  test('whoever leaves early cancels', async () => {
    const ended = Promise.withResolvers<undefined>();
    const client = await serve({
      async *output(_requests, { signal }) {
        yield await Promise.resolve({ sequence: 1n });
        await once(signal, 'abort');
        ended.resolve(undefined);
      },
    });
    for await (const { sequence } of client.output(endless())) {
      expect(sequence).toBe(1n);
      break;
    }
    await ended.promise;
  });

  test('what the requests throw is what the call ends with', async () => {
    const client = await serve({
      async *output(requests) {
        for await (const { acknowledged } of requests) yield { sequence: acknowledged };
      },
    });
    async function* broken(): AsyncGenerator<{ readonly acknowledged: bigint }> {
      yield await Promise.resolve({ acknowledged: 1n });
      throw new Error('nothing to send');
    }
    expect(await failure(all(client.output(broken())))).toEqual(['Internal', 'nothing to send']);
  });

  test('a reader that waits holds the writer up', async () => {
    let sent = 0;
    const total = 200;
    const client = await serve({
      async *output() {
        for (; sent < total; sent += 1) yield await Promise.resolve({ data: new Uint8Array(32_768) });
      },
    });
    const records = client.output(endless())[Symbol.asyncIterator]();
    await records.next();
    for (let before = -1; before !== sent;) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(sent).toBeLessThan(total / 2);
    let read = 1;
    while ((await records.next()).done !== true) read += 1;
    expect(read).toBe(total);
  });

  test('one that is lost in the middle is unavailable', async () => {
    const client = await serve({
      async *output() {
        yield await Promise.resolve({ sequence: 1n });
        await new Promise(() => undefined);
      },
    });
    const records = client.output(endless())[Symbol.asyncIterator]();
    await records.next();
    line.destroy();
    expect((await failure(records.next()))[0]).toBe('Unavailable');
  });
});
