import { createHash, randomBytes } from 'node:crypto';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex, PassThrough, Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Exit } from '../../src/agent/gen/agent/v1/agent_pb.js';
import type { GuestAgent } from '../../src/agent/guest-agent.ts';
import { silentLog } from '../../src/platform/log.ts';
import { execSync } from '../../src/podsandbox/exec-sync.ts';
import { attach } from '../../src/podsandbox/interactive/attach.ts';
import { exec } from '../../src/podsandbox/interactive/exec.ts';
import { portForward } from '../../src/podsandbox/interactive/port-forward.ts';
import type { StreamSession, TerminalSize } from '../../src/podsandbox/model.ts';
import { OutputPump, outputStart } from '../../src/podsandbox/output-pump.ts';
import { type ContainerGuest, startContainerGuest } from '../harness/container-guest.ts';
import { type CreateRequest, request } from '../harness/guest-containers.ts';

/** Exec, attach and port-forward between streams of the host and a real guest. */
let it: ContainerGuest;
let agent: GuestAgent;
let folder: string;
/** Runs for as long as a test needs it. */
const idle = 'idle';
const never = new AbortController().signal;
const fullBusybox = join(import.meta.dirname, '../../libexec/busybox');
const mebibyte = 1024 * 1024;
const transferBytes = Number(process.env['KELYFOS_TEST_TRANSFER_MIB'] ?? 32) * mebibyte;
const transferMs = 120_000 + transferBytes / 500;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-interactive-'));
  // Debian's own busybox has no server that is bound to one address.
  it = await startContainerGuest(async (root) => copyFile(fullBusybox, join(root, 'bin/busybox-full')));
  agent = await it.agent();
  await start(idle, ['sleep', '10000']);
}, 920_000);

afterAll(async () => {
  await it[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

async function start(id: string, argv: readonly string[], more: CreateRequest = {}): Promise<void> {
  await agent.createContainer(request(id, argv, more));
  await agent.startContainer(id);
}

/** Takes everything, and remembers it. */
class Sink extends Writable {
  readonly #chunks: Buffer[] = [];

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#chunks.push(Buffer.from(chunk));
    done();
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }

  /** Waits until the text matches. */
  async saying(pattern: RegExp, timeoutMs = 60_000): Promise<void> {
    for (const deadline = Date.now() + timeoutMs; !pattern.test(this.text);) {
      if (Date.now() > deadline) throw new Error(`never said ${String(pattern)}: ${JSON.stringify(this.text)}`);
      await delay(20);
    }
  }
}

/** Takes nothing, ever. */
class Stuck extends Writable {
  override _write(): void {
    // Never done.
  }
}

/** Takes everything and remembers only its checksum. */
class Summing extends Writable {
  readonly #hash = createHash('sha256');
  bytes = 0;

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#hash.update(chunk);
    this.bytes += chunk.length;
    done();
  }

  get sum(): string {
    return this.#hash.copy().digest('hex');
  }
}

/** Many bytes that do not repeat soon, and their checksum once they were read. */
function source(bytes: number): { readonly stream: Readable; readonly sum: () => string } {
  const block = randomBytes(mebibyte + 7);
  const hash = createHash('sha256');
  let left = bytes;
  const stream = new Readable({
    read(size): void {
      const from = left % mebibyte;
      const chunk = block.subarray(from, Math.min(from + Math.min(size, left), block.length));
      left -= chunk.length;
      hash.update(chunk);
      this.push(chunk.length === 0 ? null : chunk);
    },
  });
  return { stream, sum: () => hash.digest('hex') };
}

const streams = (some: Partial<StreamSession>): StreamSession => ({
  stdin: undefined,
  stdout: undefined,
  stderr: undefined,
  resizes: undefined,
  ...some,
});

async function run(
  argv: readonly string[],
  some: Partial<StreamSession> = {},
  tty = false,
): Promise<{ readonly exitCode: number; readonly stdout: string; readonly stderr: string }> {
  const [stdout, stderr] = [new Sink(), new Sink()];
  const session = streams({ stdout, ...(tty ? {} : { stderr }), ...some });
  const { exitCode } = await exec(agent, { containerId: idle, argv, tty }, session, never);
  return { exitCode, stdout: stdout.text, stderr: stderr.text };
}

/** What the script says; it may fail, but not complain. */
async function sh(script: string, containerId = idle): Promise<string> {
  const call = { containerId, command: ['sh', '-c', script], timeoutSeconds: 60, log: silentLog() };
  const { stdout, stderr } = await execSync(agent, call, never);
  if (stderr.length > 0) throw new Error(`${script}: ${Buffer.from(stderr).toString()}`);
  return Buffer.from(stdout).toString().trim();
}

async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 30_000; !(await holds());) {
    if (Date.now() > deadline) throw new Error(`never: ${what}`);
    await delay(50);
  }
}

/** Waits until no process of the container has such arguments. */
async function gone(args: string): Promise<void> {
  await eventually(`"${args}" has ended`, async () => (await sh(`busybox-full pgrep -f "^${args}"`)) === '');
}

function perSecond(what: string, bytes: number, started: number): void {
  const mebibytes = bytes / mebibyte;
  const rate = mebibytes / ((performance.now() - started) / 1000);
  process.stderr.write(`${what}: ${mebibytes.toFixed(0)} MiB at ${rate.toFixed(1)} MiB/s\n`);
}

describe('exec', () => {
  test('input, both outputs and the exit code', async () => {
    const stdin = Readable.from([Buffer.from('a\n'), Buffer.from('b\n')]);
    const outcome = await run(['sh', '-c', 'cat; echo err >&2; exit 7'], { stdin });
    expect(outcome).toEqual({ exitCode: 7, stdout: 'a\nb\n', stderr: 'err\n' });
    expect(await run(['true'])).toMatchObject({ exitCode: 0 });
    expect(await run(['sh', '-c', 'kill -9 $$'])).toMatchObject({ exitCode: 137 });
  });

  test('input that stays open holds nothing up, input that was not asked for is empty', async () => {
    const stdin = new PassThrough();
    stdin.write('line\n');
    expect(await run(['head', '-n', '1'], { stdin })).toMatchObject({ exitCode: 0, stdout: 'line\n' });
    expect(await run(['cat'])).toMatchObject({ exitCode: 0, stdout: '' });
  });

  test('a program that cannot be executed', async () => {
    await expect(run(['nope'])).rejects.toThrow('exec: "nope": executable file not found in $PATH');
  });

  test('a terminal, its sizes and its input', async () => {
    const sizes = new PassThrough({ objectMode: true });
    const [stdin, stdout] = [new PassThrough(), new Sink()];
    const resizes = sizes as AsyncIterable<TerminalSize>;
    sizes.write({ width: 90, height: 30 });
    const script =
      'while [ "$(stty size)" != "30 90" ]; do usleep 10000; done; echo ready; read x; stty size; echo $x $TERM';
    const session = streams({ stdin, stdout, resizes });
    const done = exec(agent, { containerId: idle, argv: ['sh', '-c', script], tty: true }, session, never);
    await stdout.saying(/ready/);
    sizes.write({ width: 101, height: 41 });
    await delay(200);
    stdin.write('word\n');
    expect(await done).toEqual({ exitCode: 0 });
    expect(stdout.text.replaceAll('\r', '')).toBe('ready\nword\n41 101\nword xterm\n');
  });

  test('many at once, each with its own', async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 16 }, async (_, index) => {
        const text = `${String(index)} `.repeat(5000);
        const outcome = await run(['sh', '-c', `cat; exit ${String(index)}`], {
          stdin: Readable.from([Buffer.from(text)]),
        });
        return { right: outcome.stdout === text, exitCode: outcome.exitCode };
      }),
    );
    expect(outcomes).toEqual(outcomes.map((_, index) => ({ right: true, exitCode: index })));
  });

  test(
    'a big transfer through it is the same at the other end',
    async () => {
      const { stream: stdin, sum } = source(transferBytes);
      const stdout = new Summing();
      const started = performance.now();
      const session = streams({ stdin, stdout });
      expect(await exec(agent, { containerId: idle, argv: ['cat'], tty: false }, session, never)).toEqual({
        exitCode: 0,
      });
      perSecond('exec cat, both ways', transferBytes, started);
      expect(stdout.bytes).toBe(transferBytes);
      expect(stdout.sum).toBe(sum());
    },
    transferMs,
  );

  test('a client that does not read slows its own stream only', async () => {
    const stuck = new Stuck();
    const abort = new AbortController();
    const argv = ['dd', 'if=/dev/zero', 'of=/dev/stdout', 'bs=4096', 'count=100000'];
    const stalled = exec(agent, { containerId: idle, argv, tty: false }, streams({ stdout: stuck }), abort.signal);
    stalled.catch(() => undefined);
    const { stream: stdin, sum } = source(4 * mebibyte);
    const stdout = new Summing();
    await exec(agent, { containerId: idle, argv: ['cat'], tty: false }, streams({ stdin, stdout }), never);
    expect(stdout.sum).toBe(sum());
    expect(stuck.writableLength).toBeLessThan(mebibyte);
    // Windows, queues and the pipe: the program itself is held up, not its output piled up somewhere.
    const written = Number(await sh('pid=$(busybox-full pgrep -o dd); sed -n "s/^wchar: //p" /proc/$pid/io'));
    expect(written).toBeGreaterThan(0);
    expect(written).toBeLessThan(2 * mebibyte);
    abort.abort();
    await expect(stalled).rejects.toThrow('cancelled');
    await gone('dd if=/dev/zero');
  });

  test('a client that goes ends all that was started', async () => {
    const abort = new AbortController();
    const stdout = new Sink();
    const argv = ['sh', '-c', 'setsid sleep 777 & echo here; sleep 777'];
    const session = streams({ stdout, stdin: new PassThrough() });
    const done = exec(agent, { containerId: idle, argv, tty: false }, session, abort.signal);
    await stdout.saying(/here/);
    abort.abort();
    await expect(done).rejects.toMatchObject({ kind: 'cancelled' });
    await gone('sleep 777');
  });

  test('also clients whose streams are all stuck', async () => {
    const aborts = Array.from({ length: 8 }, () => new AbortController());
    const sessions = aborts.map(async ({ signal }, index) => {
      // Half of them with output that nobody takes, half with input that nobody takes.
      const argv = index % 2 === 0 ? ['cat', '/dev/zero'] : ['sleep', '778'];
      const session =
        index % 2 === 0 ? streams({ stdout: new Stuck() }) : streams({ stdin: source(16 * mebibyte).stream });
      return exec(agent, { containerId: idle, argv, tty: false }, session, signal).then(
        () => 'ended',
        () => 'aborted',
      );
    });
    const running = 'busybox-full pgrep -f "^cat /dev/zero|^sleep 778" | wc -l';
    await eventually('all run', async () => (await sh(running)) === '8');
    // Time for every queue and window to fill.
    await delay(500);
    for (const abort of aborts) abort.abort();
    expect(await Promise.all(sessions)).toEqual(aborts.map(() => 'aborted'));
    await gone('cat /dev/zero');
    await gone('sleep 778');
    expect(await run(['echo', 'still here'])).toMatchObject({ stdout: 'still here\n' });
  });
});

interface Watched {
  readonly id: string;
  readonly pump: OutputPump;
  readonly exited: Promise<Exit>;
  readonly log: () => Promise<string>;
}

let count = 0;

/** A container whose output goes into a log, as the daemon has them. */
async function watched(argv: readonly string[], stdio: CreateRequest['stdio'] = {}): Promise<Watched> {
  count += 1;
  const id = `a-${String(count)}`;
  const logPath = join(folder, `${id}.log`);
  await start(id, argv, { stdio });
  const exited = Promise.withResolvers<Exit>();
  const pump = OutputPump.start({
    source: agent,
    containerId: id,
    logPath,
    checkpoint: outputStart,
    save: () => Promise.resolve(),
    onExit: (exit) => {
      exited.resolve(exit);
      return Promise.resolve();
    },
    log: silentLog(),
  });
  await pump.opened();
  const log = async (): Promise<string> =>
    (await readFile(logPath, 'utf8'))
      .split('\n')
      .map((line) => line.split(' ').slice(3).join(' '))
      .join('\n');
  return { id, pump, exited: exited.promise, log };
}

function attachTo(
  { id, pump }: Watched,
  some: Partial<StreamSession>,
  how: { readonly tty?: boolean; readonly stdinOnce?: boolean; readonly signal?: AbortSignal } = {},
): Promise<void> {
  const { tty = false, stdinOnce = false, signal = never } = how;
  const target = { containerId: id, guest: agent, pump, tty, stdinOnce, log: silentLog() };
  return attach(target, streams(some), signal);
}

describe('attach', () => {
  test('every client gets what comes from now on, and the log gets all', async () => {
    const container = await watched(
      ['sh', '-c', 'echo before; while read x; do echo got $x; echo err $x >&2; done; exit 3'],
      {
        stdin: true,
      },
    );
    await eventually('a line in the log', async () => (await container.log()).includes('before'));
    const first = { stdout: new Sink(), stderr: new Sink(), stdin: new PassThrough() };
    const second = { stdout: new Sink(), stdin: new PassThrough() };
    const ends = [attachTo(container, first), attachTo(container, second)];
    first.stdin.write('1\n');
    await second.stdout.saying(/got 1\n/);
    // Both may write.
    second.stdin.write('2\n');
    await first.stdout.saying(/got 2\n/);
    await first.stderr.saying(/err 2\n/);
    // The end of one client's input is the end of its session, not of the container's input.
    second.stdin.end();
    await ends[1];
    const third = { stdout: new Sink() };
    const later = attachTo(container, third);
    first.stdin.write('3\n');
    await third.stdout.saying(/got 3\n/);
    expect(third.stdout.text).toBe('got 3\n');
    await agent.signalContainer(container.id, 9, true);
    // The first one's input is still open, which must not keep the container from being seen to end.
    expect(await container.exited).toMatchObject({ code: 137 });
    await Promise.all([ends[0], later]);
    expect(first.stdout.text).toBe('got 1\ngot 2\ngot 3\n');
    expect(second.stdout.text).toBe('got 1\ngot 2\n');
    expect((await container.log()).split('\n').sort()).toEqual(
      ['', 'before', 'got 1', 'got 2', 'got 3', 'err 1', 'err 2', 'err 3'].sort(),
    );
  });

  test("with stdin once the end of input is the container's, and the session goes on to its exit", async () => {
    const container = await watched(['sh', '-c', 'wc -c; usleep 300000; echo late; exit 4'], {
      stdin: true,
      stdinOnce: true,
    });
    const stdout = new Sink();
    const done = attachTo(container, { stdout, stdin: Readable.from([Buffer.alloc(100_000)]) }, { stdinOnce: true });
    await done;
    expect(stdout.text).toBe('100000\nlate\n');
    expect(await container.exited).toMatchObject({ code: 4 });
  });

  test('with stdin once a client that is cut off ends the input as well', async () => {
    const container = await watched(['wc', '-c'], { stdin: true, stdinOnce: true });
    const abort = new AbortController();
    const stdin = new PassThrough();
    const done = attachTo(container, { stdin, stdout: new Sink() }, { stdinOnce: true, signal: abort.signal });
    stdin.write('12345');
    await delay(300);
    abort.abort();
    await expect(done).rejects.toMatchObject({ kind: 'cancelled' });
    expect(await container.exited).toMatchObject({ code: 0 });
    expect(await container.log()).toBe('5\n');
  });

  test('a terminal: sizes, echo, and the size of another client', async () => {
    const container = await watched(
      ['sh', '-c', 'echo $(stty size); read x; echo $(stty size) $x; read x; stty size'],
      { stdin: true, tty: true },
    );
    const sizes = new PassThrough({ objectMode: true });
    const [stdin, stdout] = [new PassThrough(), new Sink()];
    const done = attachTo(container, { stdin, stdout, resizes: sizes as AsyncIterable<TerminalSize> }, { tty: true });
    sizes.write({ width: 77, height: 22 });
    await delay(500);
    stdin.write('one\n');
    await stdout.saying(/22 77 one/);
    sizes.write({ width: 78, height: 23 });
    await delay(500);
    stdin.write('two\n');
    await done;
    expect(stdout.text).toMatch(/22 77 one\r\ntwo\r\n23 78\r\n$/);
  });

  test('everything reaches a slow client, also what the container says last', async () => {
    const lines = 30_000;
    const container = await watched(['sh', '-c', `read x; seq ${String(lines)}`], { stdin: true });
    const stdout = new Sink();
    const slow = new PassThrough({ highWaterMark: 4096 });
    const reading = (async () => {
      for await (const chunk of slow) {
        stdout.write(chunk);
        await delay(1);
      }
    })();
    const stdin = new PassThrough();
    const done = attachTo(container, { stdin, stdout: slow });
    stdin.write('go\n');
    await done;
    slow.end();
    await reading;
    expect(stdout.text).toBe(Array.from({ length: lines }, (_, index) => `${String(index + 1)}\n`).join(''));
  });
});

/** The two ends of one connection. */
function pair(): [Duplex, Duplex] {
  const [there, back] = [new PassThrough(), new PassThrough()];
  const end = (readable: PassThrough, writable: PassThrough): Duplex =>
    // As the streams of the server, an error of which is noticed by other events.
    Duplex.from({ readable, writable }).on('error', () => undefined);
  return [end(there, back), end(back, there)];
}

/** What a connection to the port answers to the data, until both have ended. */
async function ask(port: number, data: Readable | Buffer): Promise<Buffer> {
  const [client, ours] = pair();
  const done = portForward(agent, port, ours, never);
  const chunks: Buffer[] = [];
  client.on('data', (chunk: Buffer) => chunks.push(chunk));
  if (Buffer.isBuffer(data)) client.end(data);
  else data.pipe(client);
  await done;
  return Buffer.concat(chunks);
}

describe('port-forward', () => {
  const echo = 8081;
  const sum = 8082;
  const sixth = 8083;
  const rude = 8084;
  /** Takes them all, into the kernel's queue. */
  const patient = 8085;

  beforeAll(async () => {
    const serve = (address: string, port: number, program: string, how = '-c 40'): string =>
      `busybox-full tcpsvd ${how} ${address} ${String(port)} ${program} &`;
    await start('servers', [
      'sh',
      '-c',
      `${serve('127.0.0.1', echo, 'cat')} ${serve('127.0.0.1', sum, 'sha256sum')} ${serve('::1', sixth, 'cat')} ${serve('127.0.0.1', rude, 'usleep 2000000')} ${serve('127.0.0.1', patient, 'cat', '-b 300 -c 1')} wait`,
    ]);
    for (const port of [echo, sum, sixth, rude, patient]) {
      const hex = port.toString(16).toUpperCase();
      await sh(`until grep -q ":${hex} .* 0A " /proc/net/tcp /proc/net/tcp6; do usleep 20000; done`);
    }
  });

  test('reaches what listens on the loopback of the pod, over IPv4 and IPv6', async () => {
    expect((await ask(echo, Buffer.from('four'))).toString()).toBe('four');
    expect((await ask(sixth, Buffer.from('six'))).toString()).toBe('six');
  });

  test('a port where nothing listens', async () => {
    await expect(ask(9, Buffer.from('x'))).rejects.toThrow(
      'cannot connect to port 9 on localhost in the pod: 127.0.0.1: connection refused, ::1: connection refused',
    );
  });

  test('the answer to the end of the data still comes', async () => {
    const { stream, sum: expected } = source(3 * mebibyte);
    const answer = await ask(sum, stream);
    expect(answer.toString()).toBe(`${expected()}  -\n`);
  });

  test(
    'a big transfer through it is the same at the other end',
    async () => {
      const { stream, sum: expected } = source(transferBytes);
      const [client, ours] = pair();
      const back = new Summing();
      client.pipe(back);
      stream.pipe(client);
      const started = performance.now();
      await portForward(agent, echo, ours, never);
      perSecond('port-forward, both ways', transferBytes, started);
      expect(back.bytes).toBe(transferBytes);
      expect(back.sum).toBe(expected());
    },
    transferMs,
  );

  test('many at once, beside one whose client does not read', async () => {
    const [stuck, theirs] = pair();
    const abort = new AbortController();
    const stalled = portForward(agent, echo, theirs, abort.signal);
    stalled.catch(() => undefined);
    source(64 * mebibyte).stream.pipe(stuck);
    const answers = await Promise.all(
      Array.from({ length: 16 }, async (_, index) => {
        const text = `${String(index)} `.repeat(20_000);
        return (await ask(echo, Buffer.from(text))).toString() === text;
      }),
    );
    expect(answers).toEqual(answers.map(() => true));
    abort.abort();
    await expect(stalled).rejects.toMatchObject({ kind: 'cancelled' });
  });

  test('as many idle connections as a pod may have keep nothing else waiting', async () => {
    const abort = new AbortController();
    const idleOnes = Array.from({ length: 192 }, () => {
      const [client, ours] = pair();
      client.write('x');
      return portForward(agent, patient, ours, abort.signal).catch((error: unknown) => error);
    });
    const established = `grep -c "^ *[0-9]*: .*:${patient.toString(16).toUpperCase()} [0-9A-F:]* 01 " /proc/net/tcp`;
    await eventually('all are connected', async () => Number(await sh(established)) >= 192);
    expect(await run(['echo', 'also'])).toMatchObject({ stdout: 'also\n' });
    abort.abort();
    expect(await Promise.all(idleOnes)).toEqual(
      idleOnes.map(() => expect.objectContaining({ kind: 'cancelled' }) as unknown),
    );
  });

  test('a connection that the pod resets is reset for the client', async () => {
    const [client, ours] = pair();
    const done = portForward(agent, rude, ours, never);
    // It reads nothing of this, and its end is a reset then, once something of it has arrived.
    client.write(Buffer.alloc(3 * mebibyte));
    await done;
    expect(ours.destroyed).toBe(true);
  });

  test('a client that resets its stream ends the connection, and only that', async () => {
    const connections = async (): Promise<number> =>
      Number(await sh(`grep -c "^ *[0-9]*: .*:${echo.toString(16).toUpperCase()} .* 01 " /proc/net/tcp`));
    const before = await connections();
    const [client, ours] = pair();
    const done = portForward(agent, echo, ours, never);
    client.write('x');
    await new Promise((resolve) => client.once('data', resolve));
    expect(await connections()).toBeGreaterThan(before);
    ours.destroy(new Error('reset'));
    await done;
    await eventually('the connection in the pod ends', async () => (await connections()) <= before);
    expect((await ask(echo, Buffer.from('next'))).toString()).toBe('next');
  });
});
