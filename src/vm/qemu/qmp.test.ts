import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { QmpClient, QmpRefusal } from './qmp.ts';

interface Request {
  readonly execute: string;
  readonly id: number;
}

/** Behaves as QEMU's monitor: greets, insists on the handshake, answers what a test tells it to. */
class FakeMonitor {
  readonly path: string;
  readonly requests: Request[] = [];
  greeting = '{"QMP": {"version": {}, "capabilities": ["oob"]}}\n';
  /** undefined: no answer at all. */
  answer: (request: Request) => object | undefined = () => ({ return: {} });
  readonly sockets: Socket[] = [];
  readonly #server: Server;

  constructor(folder: string) {
    this.path = join(folder, 'qmp.sock');
    this.#server = createServer((socket) => {
      this.sockets.push(socket);
      socket.write(this.greeting);
      let buffered = '';
      socket.setEncoding('utf8').on('data', (chunk: string) => {
        buffered += chunk;
        const lines = buffered.split('\n');
        buffered = lines.pop() ?? '';
        for (const line of lines) this.#receive(socket, JSON.parse(line) as Request);
      });
      socket.on('error', () => undefined);
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.path, resolve));
  }

  send(text: string): void {
    this.sockets.at(-1)?.write(text);
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }

  #receive(socket: Socket, request: Request): void {
    this.requests.push(request);
    const answer = request.execute === 'qmp_capabilities' ? { return: {} } : this.answer(request);
    if (answer) socket.write(`${JSON.stringify({ ...answer, id: request.id })}\r\n`);
  }
}

const soon = (): AbortSignal => AbortSignal.timeout(2_000);
let folder: string;
let monitor: FakeMonitor;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-qmp-'));
  monitor = new FakeMonitor(folder);
});

afterEach(async () => {
  monitor.close();
  await rm(folder, { recursive: true, force: true });
});

async function connected(): Promise<QmpClient> {
  await monitor.listen();
  return QmpClient.connect(monitor.path, soon());
}

test('negotiates before the first command', async () => {
  const qmp = await connected();
  await qmp.execute('query-status');
  expect(monitor.requests.map((request) => request.execute)).toEqual(['qmp_capabilities', 'query-status']);
});

test('waits for a socket that is not there yet', async () => {
  const connecting = QmpClient.connect(monitor.path, soon());
  await monitor.listen();
  await expect(connecting).resolves.toBeInstanceOf(QmpClient);
});

test('gives up on a socket that never comes', async () => {
  await expect(QmpClient.connect(monitor.path, AbortSignal.timeout(30))).rejects.toMatchObject({ kind: 'deadline' });
});

test('gives up on a monitor that serves somebody else and does not greet', async () => {
  monitor.greeting = '';
  await monitor.listen();
  await expect(QmpClient.connect(monitor.path, AbortSignal.timeout(30))).rejects.toMatchObject({ kind: 'deadline' });
});

test('matches answers that come in another order', async () => {
  const qmp = await connected();
  monitor.answer = () => undefined;
  const [first, second] = [qmp.execute('first'), qmp.execute('second')];
  while (monitor.requests.length < 3) await new Promise(setImmediate);
  const [one, two] = monitor.requests.slice(1);
  // In one chunk, with an event in between, and then cut in the middle of a line.
  const later = `{"return": "1", "id": ${String(one?.id)}}\n`;
  monitor.send(`{"return": "2", "id": ${String(two?.id)}}\n{"event": "STOP", "timestamp": {}}\n${later.slice(0, 9)}`);
  monitor.send(later.slice(9));
  await expect(second).resolves.toBe('2');
  await expect(first).resolves.toBe('1');
});

test('a refusal rejects with what qemu says', async () => {
  const qmp = await connected();
  monitor.answer = () => ({ error: { class: 'DeviceNotFound', desc: "Device 'x' not found" } });
  const refused = qmp.execute('device_del', { id: 'x' });
  await expect(refused).rejects.toBeInstanceOf(QmpRefusal);
  await expect(refused).rejects.toMatchObject({
    errorClass: 'DeviceNotFound',
    message: "qmp device_del: Device 'x' not found",
  });
});

test('a command without answer times out and does not disturb the next', async () => {
  const qmp = await connected();
  monitor.answer = ({ execute }) => (execute === 'hangs' ? undefined : { return: 'fine' });
  await expect(qmp.execute('hangs', undefined, 20)).rejects.toMatchObject({ kind: 'deadline' });
  await expect(qmp.execute('works')).resolves.toBe('fine');
});

test('every pending call rejects when the socket dies, and later ones at once', async () => {
  const qmp = await connected();
  monitor.answer = () => undefined;
  const calls = [qmp.execute('one'), qmp.execute('two'), qmp.waitEvent(() => true, 'anything', soon())];
  while (monitor.requests.length < 3) await new Promise(setImmediate);
  monitor.sockets[0]?.destroy();
  const outcomes = await Promise.allSettled(calls);
  expect(outcomes.map((outcome) => outcome.status)).toEqual(['rejected', 'rejected', 'rejected']);
  await qmp.closed;
  await expect(qmp.execute('three')).rejects.toMatchObject({ kind: 'unavailable' });
});

test('a line that is no qmp ends the connection', async () => {
  const qmp = await connected();
  monitor.answer = () => undefined;
  const call = qmp.execute('query');
  monitor.send('(qemu) help\n');
  await expect(call).rejects.toThrow('not a qmp message');
});

test('gives events to those who wait for them', async () => {
  const qmp = await connected();
  const wanted = qmp.waitEvent((event) => event.data['status'] === 'completed', 'the end', soon());
  monitor.send('{"event": "MIGRATION", "data": {"status": "active"}, "timestamp": {}}\n');
  monitor.send('{"event": "MIGRATION", "data": {"status": "completed"}, "timestamp": {}}\n');
  await expect(wanted).resolves.toEqual({ name: 'MIGRATION', data: { status: 'completed' } });
  await expect(qmp.waitEvent(() => true, 'nothing', AbortSignal.timeout(10))).rejects.toMatchObject({
    kind: 'deadline',
  });
});

test('a later client gets its turn', async () => {
  const first = await connected();
  first.close();
  const second = await QmpClient.connect(monitor.path, soon());
  await expect(second.execute('query-status')).resolves.toEqual({});
});
