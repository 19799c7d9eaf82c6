import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { crictlPath } from '../harness/crictl.ts';
import { type Pod, TestNode } from '../harness/node.ts';
import { askPort, checksum, interact, type Interaction, libraryClients, waitForText } from '../harness/streaming.ts';

/** Exec, Attach and PortForward from clients as users have them, through the daemon, to programs in a pod. */
let node: TestNode;
let pod: Pod;
/** Runs for as long as a test needs it. */
let idle: string;
let data: string;
let dataSum: string;
const mebibyte = 1024 * 1024;
const dataBytes = 16 * mebibyte;
const [httpPort, echoPort, silentPort] = [8080, 9000, 9];
const transports = ['spdy', 'websocket'] as const;

beforeAll(async () => {
  node = await TestNode.start();
  pod = await node.runPod();
  idle = await node.startContainer(pod);
  const serve = `httpd -p 127.0.0.1:${String(httpPort)} -h /www; nc -ll -p ${String(echoPort)} -e cat`;
  await node.startContainer(pod, { command: ['sh', '-c', serve] });
  const listening = (port: number): string => `:${port.toString(16).toUpperCase()} .* 0A `;
  for (const port of [httpPort, echoPort]) {
    await node.sh(idle, `until grep -q "${listening(port)}" /proc/net/tcp /proc/net/tcp6; do usleep 20000; done`);
  }
  data = join(node.daemon.scratch, 'data');
  await writeFile(data, randomBytes(dataBytes));
  dataSum = (await checksum(createReadStream(data))).sum;
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

const crictl = (...args: readonly string[]): Interaction => interact(crictlPath, node.daemon.crictl.arguments(...args));

/** The same in a terminal of 31 lines with 91 columns. */
function inTerminal(...args: readonly string[]): Interaction {
  const quoted = [crictlPath, ...node.daemon.crictl.arguments(...args)].map((word) => `'${word}'`).join(' ');
  return interact('script', ['-q', '-e', '-c', `stty rows 31 cols 91; exec ${quoted}`, '/dev/null']);
}

const container = (command: string, config: object = {}): Promise<string> =>
  node.startContainer(pod, { command: ['sh', '-c', command], config });

async function runs(args: string): Promise<boolean> {
  const [first, ...rest] = args;
  const { stdout } = await node.exec(idle, 'sh', '-c', `ps -o args | grep "^[${String(first)}]${rest.join('')}"`);
  return stdout !== '';
}

async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 30_000; !(await holds());) {
    if (Date.now() > deadline) throw new Error(`never: ${what}`);
    await delay(50);
  }
}

/** The local port that a forwarder says it listens on. */
async function forwardedPort(forwarder: Interaction): Promise<number> {
  const [, port] = await waitForText(forwarder.stdout, /Forwarding from 127\.0\.0\.1:(\d+)/);
  return Number(port);
}

describe.each(transports)('crictl over %s', (transport) => {
  const over = ['--transport', transport];

  test('exec: input to its end, both outputs, the exit code', async () => {
    const run = crictl('exec', '-i', ...over, idle, 'sh', '-c', 'cat; echo err >&2; exit 7');
    run.stdin.end('from here\n');
    const { stdout, stderr, exitCode } = await run;
    expect(stdout).toBe('from here');
    expect(stderr).toContain('err\n');
    expect(stderr).toContain('exit code 7');
    expect(exitCode).not.toBe(0);
    expect(await crictl('exec', ...over, idle, 'echo', 'fine')).toMatchObject({ stdout: 'fine', exitCode: 0 });
    expect((await crictl('exec', ...over, idle, 'nope')).stderr).toContain('executable file not found in $PATH');
  });

  test('exec with a terminal', async () => {
    const run = inTerminal('exec', '-it', ...over, idle, 'sh');
    // The size comes beside the command.
    run.stdin.write('until [ "$(stty size)" = "31 91" ]; do usleep 20000; done; tty; echo size $(stty size)\n');
    await waitForText(run.stdout, /\/dev\/pts\/\d+\r\nsize 31 91\r\n/);
    run.stdin.write('exit 3\n');
    expect((await run).exitCode).not.toBe(0);
  });

  test('exec ends with its client', async () => {
    const mark = transport === 'spdy' ? '1111' : '2222';
    const run = crictl('exec', '-i', ...over, idle, 'sh', '-c', `setsid sleep ${mark} & sleep ${mark}`);
    await eventually('it runs', () => runs(`sleep ${mark}`));
    run.kill('SIGKILL');
    await run;
    await eventually('it has ended', async () => !(await runs(`sleep ${mark}`)));
  });

  test('attach: output from now on, input, the exit', async () => {
    const id = await container('echo before; while read x; do echo got $x; [ $x = last ] && exit; done', {
      stdin: true,
    });
    await eventually('a line in the log', async () => (await node.logLines(id)).length === 1);
    const [first, second] = [crictl('attach', '-i', ...over, id), crictl('attach', '-i', ...over, id)];
    // There is no sign of being attached but that it works.
    const [one, two] = [waitForText(first.stdout, /got ping/), waitForText(second.stdout, /got ping/)];
    const pinging = new AbortController();
    void (async () => {
      while (!pinging.signal.aborted) {
        first.stdin.write('ping\n');
        await delay(100);
      }
    })();
    await Promise.all([one, two]);
    pinging.abort();
    second.stdin.write('last\n');
    expect((await first).stdout).toMatch(/^(got ping\n)+got last$/);
    expect((await second).stdout).toMatch(/^(got ping\n)+got last$/);
    expect((await node.logLines(id)).map(({ content }) => content)).toEqual(
      expect.arrayContaining(['before', 'got ping', 'got last']),
    );
    expect(await node.waitExited(id)).toMatchObject({ exit_code: 0 });
  });

  test('attach with stdin once', async () => {
    const id = await container('wc -c', { stdin: true, stdin_once: true });
    const run = crictl('attach', '-i', ...over, id);
    createReadStream(data).pipe(run.stdin);
    expect((await run).stdout).toBe(String(dataBytes));
    await node.waitExited(id);
  });

  test('attach to a terminal', async () => {
    const id = await container(
      'until [ "$(stty size)" = "31 91" ]; do usleep 20000; done; echo sized; read x; echo $x',
      {
        stdin: true,
        tty: true,
      },
    );
    const run = inTerminal('attach', '-it', ...over, id);
    await waitForText(run.stdout, /sized/);
    run.stdin.write('word\n');
    expect((await run).stdout).toMatch(/word\r?\nword/);
  });

  test('port-forward reaches the loopback of the pod, and says where nothing listens', async () => {
    const ports = [httpPort, echoPort, silentPort].map((port) => `0:${String(port)}`);
    const forwarder = crictl('port-forward', ...over, pod.id, ...ports);
    const found: number[] = [];
    const problem = waitForText(forwarder.stderr, /error forwarding port 9 to pod sandbox [0-9a-f]{64}: .*refused/);
    problem.catch(() => undefined);
    await waitForText(
      forwarder.stdout,
      /127\.0\.0\.1:(\d+) -> 8080[^]*127\.0\.0\.1:(\d+) -> 9000[^]*127\.0\.0\.1:(\d+) -> 9\n/,
    ).then((match) => found.push(...match.slice(1).map(Number)));
    const [http = 0, echo = 0, silent = 0] = found;
    expect(await askPort(http, 'GET /index.html HTTP/1.0\r\n\r\n')).toContain('It works.');
    // The server has room for two that wait.
    for (const text of ['a', 'b', 'c'].map((letter) => `${letter} `.repeat(10_000))) {
      const answers = await Promise.all([askPort(echo, text), askPort(echo, text)]);
      expect(answers.map((answer) => answer === text)).toEqual([true, true]);
    }
    await askPort(silent, 'x').catch(() => '');
    await problem;
    forwarder.kill('SIGTERM');
    await forwarder;
  });
});

describe.each(libraryClients)('$name', ({ program, transport }) => {
  async function url(rpc: 'Exec' | 'Attach', request: object): Promise<string> {
    return (await node.daemon.cri.call(rpc, { container_id: idle, stdout: true, ...request })).url;
  }

  const run = (target: string, ...args: readonly string[]): Interaction =>
    interact(program, [`-url=${target}`, `-transport=${transport}`, ...args]);

  test('exec: outputs apart, the exit code itself', async () => {
    const cmd = ['sh', '-c', 'cat; echo err >&2; exit 7'];
    const client = run(await url('Exec', { cmd, stdin: true, stderr: true }), '-stdin', '-stderr');
    client.stdin.end('in\n');
    expect(await client).toMatchObject({ stdout: 'in', stderr: 'err', exitCode: 7 });
  });

  const older = transport === 'spdy' ? ['v3', 'v2'].map((version) => `${version}.channel.k8s.io`) : [];
  for (const protocol of older) {
    test(`exec as spoken before, ${protocol}`, async () => {
      const cmd = ['sh', '-c', 'cat; echo err >&2; exit 7'];
      const target = await url('Exec', { cmd, stdin: true, stderr: true });
      const client = run(target, `-protocols=${protocol}`, '-stdin', '-stderr');
      client.stdin.end('in\n');
      const { stdout, stderr, exitCode } = await client;
      expect(stdout).toBe('in');
      expect(stderr).toMatch(/^err\n[^]*exit status 7/);
      // The code of the program for "something else went wrong".
      expect(exitCode).toBe(125);
    });
  }

  test('exec with a terminal that changes its size', async () => {
    const client = run(
      await url('Exec', {
        cmd: ['sh', '-c', 'until [ "$(stty size)" = "30 100" ]; do :; done; echo sized'],
        stdin: true,
        tty: true,
      }),
      '-stdin',
      '-tty',
      '-resize=80x24,100x30',
    );
    expect((await client).stdout).toContain('sized');
  });

  test('a big transfer through exec is the same at the other end', async () => {
    const client = run(await url('Exec', { cmd: ['cat'], stdin: true }), '-stdin');
    const back = checksum(client.stdout);
    createReadStream(data).pipe(client.stdin);
    expect(await back).toEqual({ sum: dataSum, bytes: dataBytes });
    expect((await client).exitCode).toBe(0);
  });

  test('a big transfer through port-forward is the same at the other end', async () => {
    const { url: target } = await node.daemon.cri.call('PortForward', { pod_sandbox_id: pod.id });
    const forwarder = run(target, `-ports=0:${String(echoPort)}`);
    const socket = connect(await forwardedPort(forwarder), '127.0.0.1');
    createReadStream(data).pipe(socket);
    expect(await checksum(socket)).toEqual({ sum: dataSum, bytes: dataBytes });
    forwarder.stdin.end();
    expect((await forwarder).exitCode).toBe(0);
  });
});

test('a client that hangs loses its session, and the container goes on', async () => {
  const id = await container('read x; head -c 20000000 /dev/zero | tr "\\0" x; echo', { stdin: true });
  const attached = crictl('attach', '-i', id);
  await eventually('it is attached', async () =>
    (await node.daemon.log()).includes(`"stream":"attach","containerId":"${id}"`),
  );
  attached.kill('SIGSTOP');
  const other = crictl('attach', '-i', id);
  other.stdin.write('go\n');
  expect(await node.waitExited(id)).toMatchObject({ exit_code: 0 });
  expect((await node.logLines(id)).reduce((sum, { content }) => sum + content.length, 0)).toBe(20_000_000);
  expect((await other).stdout.length).toBe(20_000_000);
  attached.kill('SIGCONT');
  expect((await attached).stderr).toContain('took nothing');
});

test('containers in a user namespace', async () => {
  const mapping = [{ host_id: 1_000_000, container_id: 0, length: 65_536 }];
  const security_context = {
    namespace_options: { userns_options: { mode: 'POD', uids: mapping, gids: mapping } },
  } as const;
  const mapped = await node.runPod({ name: 'mapped', config: { linux: { security_context } } });
  const id = await node.startContainer(mapped, {
    command: ['sh', '-c', `nc -ll -p ${String(echoPort)} -e cat`],
    config: { linux: { security_context } },
  });
  await node.sh(id, 'until grep -q " 0A " /proc/net/tcp /proc/net/tcp6; do usleep 20000; done');
  const run = crictl('exec', '-i', id, 'sh', '-c', 'cat; id -u; cat /proc/self/uid_map > /dev/stderr');
  run.stdin.end('in\n');
  const { stdout, stderr } = await run;
  expect(stdout).toBe('in\n0');
  expect(stderr).toMatch(/^\s*0\s+1000000\s+65536/);
  const forwarder = crictl('port-forward', mapped.id, `0:${String(echoPort)}`);
  expect(await askPort(await forwardedPort(forwarder), 'there and back')).toBe('there and back');
  forwarder.kill('SIGTERM');
  await forwarder;
  await node.removePod(mapped);
});

test('a client that waits is told when its container ends', async () => {
  const id = await container('sleep 1000', { stdin: true });
  const attached = crictl('attach', '-i', id);
  const executed = crictl('exec', '-i', id, 'sleep', '1001');
  await eventually(
    'the exec runs',
    async () => (await node.exec(id, 'sh', '-c', 'ps | grep "[s]leep 1001"')).stdout !== '',
  );
  await node.daemon.cri.call('StopContainer', { container_id: id, timeout: '0' });
  expect((await attached).exitCode).toBe(0);
  expect((await executed).stderr).toContain('137');
});

test('a new daemon serves the containers of the old one', async () => {
  const id = await container('while read x; do echo got $x; done', { stdin: true });
  const mark = 'sleep 3333';
  const left = crictl('exec', '-i', idle, ...mark.split(' '));
  await eventually('it runs', () => runs(mark));
  expect(await node.daemon.stop()).toBe('exit code 0');
  // The client hears of it rather than waiting for ever.
  expect((await left).exitCode).not.toBe(0);
  await node.daemon.start();
  await eventually('what nobody waits for has ended', async () => !(await runs(mark)));
  const attached = crictl('attach', '-i', id);
  const echoed = waitForText(attached.stdout, /got again/);
  attached.stdin.write('again\n');
  await echoed;
  attached.stdin.end();
  expect((await attached).exitCode).toBe(0);
  expect((await crictl('exec', idle, 'echo', 'too')).stdout).toBe('too');
});
