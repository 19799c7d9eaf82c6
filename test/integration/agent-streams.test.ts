import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import {
  Channel,
  type ExecResponse,
  type OutputRecord,
  type OutputRequestSchema,
  Seccomp_Kind,
} from '../../src/agent/gen/agent/v1/agent_pb.js';
import { type ContainerGuest, startContainerGuest } from '../harness/container-guest.ts';
import {
  type CreateRequest,
  execIn,
  type ExecRequest,
  type Outcome,
  readOutput,
  request,
  Requests,
  runContainer,
} from '../harness/guest-containers.ts';

/** What goes in and out of processes in the guest: output that survives reconnects, input, terminals, Exec. */
let it: ContainerGuest;
let count = 0;
/** Runs for as long as a test needs it. */
const idle = 'idle';

beforeAll(async () => {
  it = await startContainerGuest(async () => undefined);
  await start(idle, ['sleep', '10000']);
}, 920_000);

afterAll(async () => {
  await it[Symbol.asyncDispose]();
});

const nextId = (): string => `s-${String((count += 1))}`;

async function start(id: string, argv: readonly string[], more: CreateRequest = {}): Promise<void> {
  await it.client().createContainer(request(id, argv, more));
  await it.client().startContainer({ id });
}

type OutputRequest = MessageInitShape<typeof OutputRequestSchema>;

/** The first records after `acknowledged`, which are not acknowledged themselves. */
async function peek(id: string, wanted: number, acknowledged = 0n): Promise<OutputRecord[]> {
  const requests = new Requests<OutputRequest>();
  requests.push({ id, acknowledged });
  const records: OutputRecord[] = [];
  for await (const record of it.client().output(requests)) {
    records.push(record);
    if (records.length === wanted) break;
  }
  requests.end();
  return records;
}

async function codeOf(call: Promise<unknown>): Promise<Code | undefined> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return error instanceof ConnectError ? error.code : undefined;
}

async function exec(
  argv: readonly string[],
  more: object = {},
  input: readonly ExecRequest[] = [],
): Promise<Outcome & { startedMs: number; exitedMs: number }> {
  return await execIn(it.client(), { containerId: idle, inherit: true, process: { argv: [...argv] }, ...more }, input);
}

describe('output', () => {
  test('streams that are left early do not use up those that a session may have', async () => {
    const id = nextId();
    await start(id, ['sh', '-c', 'echo here; exec sleep 10000']);
    // The agent serves 256 at once.
    for (let time = 0; time < 300; time += 1) expect(await peek(id, 1)).toHaveLength(1);
    await it.client().removeContainer({ id });
  });

  test('comes again as it was after a reconnect, and then goes on', async () => {
    const id = nextId();
    await start(id, ['sh', '-c', 'for i in 1 2 3 4 5 6; do echo out $i; echo err $i >&2; usleep 20000; done; exit 5']);
    const before = await peek(id, 6);
    await it.reconnect();
    const again = await peek(id, 6);
    expect(again).toEqual(before);
    await it.reconnect();
    const rest = await peek(id, 1000, before[2]?.sequence);
    expect(rest.slice(0, 3)).toEqual(before.slice(3));
    const all = [...before.slice(0, 3), ...rest];
    expect(all.map((record) => record.sequence)).toEqual(all.map((_, index) => BigInt(index + 1)));
    // Each channel in order; between the two only the agent's clock tells, and a busy machine may turn neighbours round.
    for (const [channel, word] of [
      [Channel.STDOUT, 'out'],
      [Channel.STDERR, 'err'],
    ] as const) {
      const text = Buffer.concat(all.filter((record) => record.channel === channel).map(({ data }) => data)).toString();
      expect(text).toBe([1, 2, 3, 4, 5, 6].map((i) => `${word} ${String(i)}\n`).join(''));
    }
    expect(all.at(-1)?.exit).toMatchObject({ code: 5 });
    await it.client().removeContainer({ id });
  });

  test('blocks the container when nobody takes it, and nothing is lost', async () => {
    const id = nextId();
    const bytes = 5_000_000;
    await start(id, ['sh', '-c', `head -c ${String(bytes)} /dev/urandom | tee /copy; md5sum < /copy >&2`]);
    await delay(500);
    const { containers } = await it.client().stats({});
    expect(containers.find((figures) => figures.id === id)?.writableLayer?.bytes).toBeLessThan(2_500_000n);
    const outcome = await readOutput(it.client(), id);
    const data = Buffer.concat(
      outcome.records.filter((record) => record.channel === Channel.STDOUT).map((record) => record.data),
    );
    expect(data.length).toBe(bytes);
    const { createHash } = await import('node:crypto');
    expect(outcome.stderr).toBe(`${createHash('md5').update(data).digest('hex')}  -\n`);
    expect(Math.max(...outcome.records.map((record) => record.data.length))).toBeLessThanOrEqual(32 << 10);
    await it.client().removeContainer({ id });
  }, 60_000);

  test('a second call ends the first, removal ends both', async () => {
    const id = nextId();
    await start(id, ['sleep', '100']);
    const first = codeOf(peek(id, 1));
    await delay(50);
    const second = codeOf(peek(id, 1));
    expect(await first).toBe(Code.Aborted);
    await it.client().removeContainer({ id });
    expect(await second).toBe(Code.NotFound);
  });

  test('ends although something in the background keeps the pipe', async () => {
    const background = ['sh', '-c', '(setsid sleep 100 &) ; echo done'];
    const outcome = await runContainer(it.client(), request(nextId(), background, { namespaces: {} }));
    expect(outcome).toMatchObject({ stdout: 'done\n', exit: { code: 0 } });
  });

  test('can be opened by name by any user', async () => {
    const script = 'echo one > /dev/stdout; echo two > /dev/stderr; echo three > /proc/self/fd/1';
    const create = request(nextId(), ['sh', '-c', script], { process: { user: { username: 'web' } } });
    expect(await runContainer(it.client(), create)).toMatchObject({ stdout: 'one\nthree\n', stderr: 'two\n' });
  });
});

describe('input', () => {
  async function write(id: string, ...parts: string[]): Promise<bigint> {
    async function* requests(): AsyncGenerator<{ id: string; data?: Buffer; eof?: boolean }> {
      yield { id };
      for (const part of parts) yield { id: '', data: Buffer.from(part) };
    }
    return (await it.client().writeStdin(requests())).written;
  }

  test('arrives in order, over several calls, until it is closed', async () => {
    const id = nextId();
    await start(id, ['sh', '-c', 'cat; echo end'], { stdio: { stdin: true } });
    expect(await write(id, 'a', 'b\n')).toBe(3n);
    expect(await write(id, 'c\n')).toBe(2n);
    async function* last(): AsyncGenerator<{ id: string; eof: boolean }> {
      yield { id, eof: true };
    }
    await it.client().writeStdin(last());
    expect((await readOutput(it.client(), id)).stdout).toBe('ab\nc\nend\n');
    expect(await write(id, 'late')).toBe(0n);
    await it.client().removeContainer({ id });
  });

  test('stdin_once closes it after the first call', async () => {
    const id = nextId();
    await start(id, ['wc', '-c'], { stdio: { stdin: true, stdinOnce: true } });
    const big = 'x'.repeat(20_000);
    await write(id, big, big, big, big, big);
    expect((await readOutput(it.client(), id)).stdout).toBe('100000\n');
    await it.client().removeContainer({ id });
  });

  test('is empty when not wanted, and cannot be written then', async () => {
    expect((await runContainer(it.client(), request(nextId(), ['cat']))).exit.code).toBe(0);
    expect(await codeOf(write(idle, 'x'))).toBe(Code.FailedPrecondition);
  });
});

describe('terminals', () => {
  test('a container has one of its own, with size, console and TERM', async () => {
    const id = nextId();
    const stdio = { stdin: true, tty: true, ttyWidth: 81, ttyHeight: 25 };
    const script = 'tty; stty size; echo $TERM; test -c /dev/console && echo console; read x; stty size; echo got $x';
    await start(id, ['sh', '-c', script], { stdio, process: { user: { username: 'web' } } });
    const output = readOutput(it.client(), id);
    await delay(500);
    await it.client().resizeTty({ id, width: 100, height: 50 });
    async function* line(): AsyncGenerator<{ id: string; data: Buffer }> {
      yield { id, data: Buffer.from('hello\n') };
    }
    await it.client().writeStdin(line());
    const outcome = await output;
    expect(outcome.stdout.replaceAll('\r', '')).toBe('/dev/pts/0\n25 81\nxterm\nconsole\nhello\n50 100\ngot hello\n');
    expect(outcome.exit.code).toBe(0);
    await it.client().removeContainer({ id });
    expect(await codeOf(it.client().resizeTty({ id: idle, width: 1, height: 1 }))).toBe(Code.FailedPrecondition);
  });

  test('Exec has one, which can be resized', async () => {
    const stdio = { stdin: true, tty: true, ttyWidth: 80, ttyHeight: 24 };
    const outcome = await exec(['sh', '-c', 'tty; stty size; read x; stty size; echo $x $TERM'], { stdio }, [
      { resize: { width: 90, height: 30 } },
      { stdin: Buffer.from('word\n') },
    ]);
    const lines = outcome.stdout.replaceAll('\r', '').trim().split('\n');
    // The terminal may echo the input at any time before it is read.
    expect(outcome.stdout).toContain('/dev/pts/0');
    expect(lines.slice(-2)).toEqual(['30 90', 'word xterm']);
  });
});

describe('exec', () => {
  test('runs in the namespaces, with the privileges of the container', async () => {
    const outcome = await exec(
      [
        'sh',
        '-c',
        'ps -o pid,args | grep "sleep 1000[0]"; grep -w -E "Seccomp|CapBnd" /proc/self/status; echo $A; exit 7',
      ],
      {
        process: {
          argv: [
            'sh',
            '-c',
            'ps -o pid,args | grep "sleep 1000[0]"; grep -w -E "Seccomp|CapBnd" /proc/self/status; echo $A; exit 7',
          ],
          env: ['A=added'],
        },
      },
    );
    expect(outcome.stdout).toBe('    1 sleep 10000\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\nadded\n');
    expect(outcome.exit).toMatchObject({ code: 7, timedOut: false });
  });

  test('takes a process of its own as well', async () => {
    const process = {
      argv: ['sh', '-c', 'id -u; grep -w Seccomp /proc/self/status; pwd'],
      user: { username: 'web' },
      cwd: '/tmp',
      seccomp: { kind: Seccomp_Kind.UNCONFINED },
    };
    expect((await exec([], { inherit: false, process })).stdout).toBe('33\nSeccomp:\t0\n/tmp\n');
  });

  test('input, errors and signals', async () => {
    const input = [{ stdin: Buffer.from('a\n') }, { stdin: Buffer.from('b\n') }, { stdinEof: true }];
    const piped = await exec(['sh', '-c', 'cat; echo err >&2'], { stdio: { stdin: true } }, input);
    expect(piped).toMatchObject({ stdout: 'a\nb\n', stderr: 'err\n' });
    expect((await exec(['sleep', '100'], {}, [{ signal: 15 }])).exit).toMatchObject({ code: 143, signal: 15 });
    await expect(exec(['nope'])).rejects.toThrow('exec: "nope": executable file not found in $PATH');
    expect(await codeOf(exec(['true'], { containerId: 'none' }))).toBe(Code.NotFound);
    expect(await codeOf(exec([]))).toBe(Code.InvalidArgument);
  });

  test('the score of a program is its own, and neither the agent’s nor the next container’s', async () => {
    const id = nextId();
    await start(id, ['sleep', '10000'], { process: { oomScoreAdj: 700 } });
    const score = ['cat', '/proc/self/oom_score_adj'];
    expect((await exec(score, { containerId: id })).stdout).toBe('700\n');
    expect((await exec(score)).stdout).toBe('0\n');
    await it.client().removeContainer({ id });
  });

  test('goes on as well beside a container that may look into other processes', async () => {
    const all = ['CAP_SYS_PTRACE', 'CAP_KILL'];
    const capabilities = { bounding: all, effective: all, permitted: all };
    const id = nextId();
    await start(id, ['sleep', '10000'], { process: { capabilities } });
    for (const containerId of [id, idle]) {
      expect(await exec(['sh', '-c', 'echo here; exit 4'], { containerId })).toMatchObject({
        stdout: 'here\n',
        exit: { code: 4 },
      });
      await expect(exec(['nope'], { containerId })).rejects.toThrow('exec: "nope": executable file not found in $PATH');
    }
    await it.client().removeContainer({ id });
  });

  const result = async (argv: readonly string[], more: object = {}): Promise<readonly ExecResponse[]> => {
    const requests = new Requests<ExecRequest>();
    requests.push({
      start: { containerId: idle, inherit: true, resultOnly: true, process: { argv: [...argv] }, ...more },
    });
    requests.end();
    return Array.fromAsync(it.client().exec(requests));
  };

  test('its result alone: output, exit, and why it could not be executed', async () => {
    expect(await result(['true'])).toMatchObject([{ started: false, exit: { code: 0 } }]);
    const answers = await result(['sh', '-c', 'head -c 300000 /dev/zero; exit 3']);
    expect(answers.some(({ started }) => started)).toBe(false);
    expect(Buffer.concat(answers.map(({ data }) => data)).length).toBe(300_000);
    expect(answers.at(-1)).toMatchObject({ exit: { code: 3 } });
    await expect(result(['/bin/nope'])).rejects.toThrow('exec: "/bin/nope": no such file or directory');
    expect(await result(['sleep', '100'], { timeoutMs: 200n })).toMatchObject([
      { exit: { code: 137, timedOut: true } },
    ]);
  });

  const sleepers = async (): Promise<string> =>
    (await exec(['sh', '-c', 'ps -o args | grep -c "^sleep 77[7]"'])).stdout.trim();

  test('a time-out ends the whole tree', async () => {
    const tree = 'setsid sh -c "setsid sleep 777 & sleep 777" & sleep 777';
    const outcome = await exec(['sh', '-c', tree], { timeoutMs: 300n });
    expect(outcome.exit).toMatchObject({ code: 137, timedOut: true });
    expect(await sleepers()).toBe('0');
  });

  test('so does a client that goes', async () => {
    const abort = new AbortController();
    const requests = new Requests<ExecRequest>();
    requests.push({
      start: { containerId: idle, inherit: true, process: { argv: ['sh', '-c', 'setsid sleep 777 & sleep 777'] } },
    });
    const call = (async () => {
      for await (const response of it.client().exec(requests, { signal: abort.signal })) {
        if (response.started)
          setTimeout(() => {
            abort.abort();
          }, 200);
      }
    })();
    await expect(call).rejects.toThrow();
    await delay(300);
    expect(await sleepers()).toBe('0');
  });

  test('what stays in the background does not hold the answer up for long, and lives on', async () => {
    const outcome = await exec(['sh', '-c', 'sleep 3 & echo done']);
    expect(outcome).toMatchObject({ stdout: 'done\n', exit: { code: 0 } });
    expect(outcome.exitedMs).toBeLessThan(2_900);
    expect((await exec(['sh', '-c', 'ps -o args | grep -c "^sleep [3]"'])).stdout).toBe('1\n');
  });

  test('large output passes a slow reader whole', async () => {
    const outcome = await exec(['sh', '-c', 'head -c 3000000 /dev/zero']);
    expect(outcome.stdout.length).toBe(3_000_000);
  });

  test('leaves no cgroup behind', async () => {
    await delay(3_000);
    // What was left behind goes with the next one.
    await exec(['true']);
    expect((await exec(['sh', '-c', 'ls /sys/fs/cgroup | grep -c exec-'])).stdout).toBe('1\n');
  });
});

test('signals reach one process or all of a container', async () => {
  const id = nextId();
  const trap = 'trap "echo got; exit 9" TERM; sleep 100 & wait';
  await start(id, ['sh', '-c', trap]);
  await delay(300);
  expect(await codeOf(it.client().signalContainer({ id, signal: 65 }))).toBe(Code.InvalidArgument);
  expect(await it.client().signalContainer({ id, signal: 15 })).toMatchObject({ delivered: true });
  expect(await readOutput(it.client(), id)).toMatchObject({ stdout: 'got\n', exit: { code: 9 } });
  expect(await it.client().signalContainer({ id, signal: 9 })).toMatchObject({ delivered: false });
  await it.client().removeContainer({ id });
  const other = nextId();
  await start(other, ['sleep', '100']);
  expect(await it.client().signalContainer({ id: other, signal: 9, all: true })).toMatchObject({ delivered: true });
  expect((await readOutput(it.client(), other)).exit).toMatchObject({ code: 137, signal: 9 });
  await it.client().removeContainer({ id: other });
});
