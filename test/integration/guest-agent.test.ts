import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { openConnection } from '../../src/agent/handshake.ts';
import { AgentSession } from '../../src/agent/session.ts';
import { AppError } from '../../src/platform/errors.ts';
import { type BareGuest, startBareGuest } from '../harness/bare-guest.ts';

const checkout = join(import.meta.dirname, '../..');
/** Issue: whatever was cut off, the agent answers within a second. */
const answerMs = 1_000;
const nanosPerMs = 1_000_000n;

let guest: BareGuest;

beforeAll(async () => {
  await execa(join(checkout, 'guest/image/build'), { timeout: 900_000 });
  guest = await startBareGuest();
}, 920_000);

afterAll(async () => {
  await guest[Symbol.asyncDispose]();
});

/** A configuration without network and share, as a rehearsal might use it. */
function plainSandbox(): { clockNs: bigint; entropy: Buffer; machineId: string; hostname: string } {
  return {
    clockNs: BigInt(Date.now()) * nanosPerMs,
    entropy: randomBytes(64),
    machineId: randomBytes(16).toString('hex'),
    hostname: 'pod',
  };
}

async function kindOf(call: Promise<unknown>): Promise<string> {
  const error: unknown = await call.then(
    () => 'no error',
    (reason: unknown) => reason,
  );
  return error instanceof AppError ? `${error.kind}: ${error.message}` : String(error);
}

/** Milliseconds until a fresh session has answered its first call. */
async function answerTime(): Promise<number> {
  const start = performance.now();
  const session = await AgentSession.open(guest.sockets, answerMs);
  await session.client.hello({});
  const elapsed = performance.now() - start;
  session.close();
  await session.lost;
  return elapsed;
}

async function rawPort(path: string): Promise<Socket> {
  const socket = connect(path);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

async function hangUp(...sockets: readonly Socket[]): Promise<void> {
  await Promise.all(
    sockets.map(async (socket) => {
      const closed = once(socket, 'close');
      socket.destroy();
      await closed;
    }),
  );
}

/** Waits until these bytes have come. */
async function receive(socket: Socket, wanted: Buffer): Promise<boolean> {
  let received = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
  });
  // A session's socket is handed over paused.
  socket.resume();
  const deadline = Date.now() + answerMs;
  while (!received.includes(wanted) && Date.now() < deadline) await delay(5);
  return received.includes(wanted);
}

describe('boot', () => {
  test('the agent answers and says what it is', async () => {
    const agent = guest.connect();
    const answer = await agent.hello(AbortSignal.timeout(60_000));
    expect(answer.protocol).toBe(1);
    expect(answer.kernelRelease).toMatch(/^\d+\.\d+\..*amd64$/);
    expect(answer.random).toHaveLength(32);
    // An id that the kernel had made by now would be in every clone.
    expect(answer.bootId).toBe('');
    await agent.close();
  });

  test('the console shows no module that failed and no controller that is missing', async () => {
    const lines = (await guest.serial()).split('\n').filter((line) => line.includes('kelyfos-agent:'));
    expect(
      lines.map((line) =>
        line
          .replace(/[\d.]+ s/, 'N s')
          .replace(/^.*kelyfos-agent/, 'kelyfos-agent')
          .trim(),
      ),
    ).toEqual(['kelyfos-agent: ready N s after the kernel started']);
  });
});

describe('configuration', () => {
  test('a clone becomes a pod with its own identity and the time of the host', async () => {
    const agent = guest.connect();
    const first = plainSandbox();
    const past = BigInt(Date.UTC(2020, 0)) * nanosPerMs;
    await agent.configureSandbox({ ...first, clockNs: past });
    const then = await agent.hello();
    expect(then.machineId).toBe(first.machineId);
    expect(Number((then.clockNs - past) / nanosPerMs)).toBeLessThan(5_000);
    expect(then.bootId).toMatch(/^[\da-f-]{36}$/);

    const second = plainSandbox();
    await agent.configureSandbox({ ...second, clockNs: BigInt(Date.now()) * nanosPerMs });
    const now = await agent.hello();
    expect(now.machineId).toBe(second.machineId);
    expect(Math.abs(Number(now.clockNs / nanosPerMs) - Date.now())).toBeLessThan(50);
    await agent.close();
  });

  test('interfaces, routes and the share can be configured again and again', async () => {
    const agent = guest.connect();
    for (const n of [1, 2, 3]) {
      const host = String(n);
      await agent.configureSandbox({
        ...plainSandbox(),
        dns: { servers: ['10.0.0.10'], searches: ['a.example'], options: ['ndots:5'] },
        interfaces: [
          {
            name: n === 2 ? 'net1' : 'eth0',
            mac: `02:00:00:00:00:0${host}`,
            mtu: 1400 + n,
            addresses: [`10.1.2.${host}/24`, `fd00::${host}/64`],
            nic: 0,
          },
        ],
        routes: [
          { destination: '0.0.0.0/0', gateway: '169.254.1.1', interface: n === 2 ? 'net1' : 'eth0' },
          { destination: '169.254.1.1/32', interface: n === 2 ? 'net1' : 'eth0', scope: 253 },
          { destination: '::/0', gateway: 'fd00::ff', interface: n === 2 ? 'net1' : 'eth0', metric: 5 },
        ],
        neighbours: [{ address: '169.254.1.1', mac: '02:00:00:00:00:ff', interface: n === 2 ? 'net1' : 'eth0' }],
        sysctls: { 'net.ipv4.ip_forward': '1', 'net.core.somaxconn': String(1000 + n) },
        shareTag: n === 2 ? '' : 'share',
      });
    }
    await agent.close();
  });

  test('a wrong request names the field and changes nothing', async () => {
    const agent = guest.connect();
    const before = plainSandbox();
    await agent.configureSandbox(before);
    const wrong = async (change: object): Promise<string> =>
      await kindOf(agent.configureSandbox({ ...plainSandbox(), ...change }));
    expect(await wrong({ entropy: randomBytes(8) })).toMatch(/^invalid: .*entropy/);
    expect(await wrong({ machineId: '../../etc' })).toMatch(/^invalid: .*machine_id/);
    expect(await wrong({ hostname: 'a\nb' })).toMatch(/^invalid: .*hostname/);
    expect(await wrong({ interfaces: [{ name: '../../x' }] })).toMatch(/^invalid: .*interfaces\[0\]\.name/);
    expect(await wrong({ routes: [{ destination: 'x', interface: 'eth0' }] })).toMatch(
      /^invalid: .*routes\[0\]\.destination/,
    );
    expect((await agent.hello()).machineId).toBe(before.machineId);
    expect(await wrong({ interfaces: [{ name: 'eth0', nic: 7 }] })).toMatch(/no network device 7/);
    expect(await wrong({ sysctls: { 'net.ipv4.no_such_thing': '1' } })).toMatch(/sysctl net\.ipv4\.no_such_thing/);
    expect(await wrong({ sysctls: { '../../etc/x': '1' } })).toMatch(/sysctl/);
    expect(await wrong({ shareTag: 'nothing' })).toMatch(/share/);
    await agent.configureSandbox(plainSandbox());
    await agent.close();
  });

  test('trim gives memory back and the agent goes on', async () => {
    const agent = guest.connect();
    await agent.trim(true);
    await agent.trim(false);
    expect((await agent.hello()).protocol).toBe(1);
    await agent.close();
  });
});

describe('reset line', () => {
  test('answers within a second after each of 50 clients that were killed at work', async () => {
    const times: number[] = [];
    for (let round = 0; round < 50; round++) {
      const client = execa(
        process.execPath,
        [join(checkout, 'test/fixtures/busy-agent-client.ts'), guest.sockets.data, guest.sockets.reset],
        {
          reject: false,
          stderr: 'ignore',
        },
      );
      await once(client.stdout, 'data');
      await delay(Math.random() * 30);
      client.kill('SIGKILL');
      await client;
      times.push(await answerTime());
    }
    expect(Math.max(...times)).toBeLessThan(answerMs);
  }, 120_000);

  test('frames that were torn and data that nobody asked for do no harm', async () => {
    for (let length = 0; length <= 36; length += 4) {
      const reset = await rawPort(guest.sockets.reset);
      const data = await rawPort(guest.sockets.data);
      const nonce = randomBytes(16);
      const frame = Buffer.concat([Buffer.from('KRST'), nonce]);
      reset.write(Buffer.concat([frame, frame]).subarray(0, length));
      data.write(Buffer.concat([randomBytes(length * 100), nonce.subarray(0, length % 16)]));
      await delay(5);
      await hangUp(reset, data);
      expect(await answerTime()).toBeLessThan(answerMs);
    }
  });

  test('a newer frame wins over one whose nonce never came', async () => {
    const reset = await rawPort(guest.sockets.reset);
    const data = await rawPort(guest.sockets.data);
    const nonce = randomBytes(16);
    reset.write(Buffer.concat([Buffer.from('KRST'), randomBytes(16)]));
    await delay(50);
    reset.write(Buffer.concat([Buffer.from('KRST'), nonce]));
    data.write(Buffer.concat([randomBytes(1000), nonce]));
    const answered = await receive(data, nonce);
    await hangUp(reset, data);
    expect(answered).toBe(true);
    expect(await answerTime()).toBeLessThan(answerMs);
  });

  test('a nonce that overtakes its frame is recognised', async () => {
    const busy = await openConnection(guest.sockets, answerMs);
    const nonce = randomBytes(16);
    busy.data.write(nonce);
    await delay(50);
    busy.reset.write(Buffer.concat([Buffer.from('KRST'), nonce]));
    const answered = await receive(busy.data, nonce);
    await hangUp(busy.data, busy.reset);
    expect(answered).toBe(true);
  });

  test('a connection outlives a pause of the machine, and calls made in it wait', async () => {
    const session = await AgentSession.open(guest.sockets, answerMs);
    await session.client.hello({});
    await guest.qmp.execute('stop');
    const call = session.client.hello({});
    await delay(300);
    await guest.qmp.execute('cont');
    expect((await call).protocol).toBe(1);
    session.close();
    await session.lost;
  });

  test('a client that leaves while the machine is paused leaves nothing behind', async () => {
    for (let round = 0; round < 10; round++) {
      const session = await AgentSession.open(guest.sockets, answerMs);
      const calls = Array.from({ length: 20 }, () => session.client.hello({}).catch(() => undefined));
      if (round % 2 === 0) await calls[0];
      await guest.qmp.execute('stop');
      session.close();
      await Promise.all([session.lost, ...calls]);
      // Close and open can merge into one for the guest.
      const next = round % 3 === 0 ? openConnection(guest.sockets, 5_000) : undefined;
      await delay(20);
      await guest.qmp.execute('cont');
      const early = await next;
      if (early !== undefined) await hangUp(early.data, early.reset);
      expect(await answerTime()).toBeLessThan(answerMs);
    }
  });
});

describe('shutdown', () => {
  test('leaves nothing to write', async () => {
    const agent = guest.connect();
    await agent.shutdown();
    expect((await agent.hello()).protocol).toBe(1);
    await agent.close();
  });
});
