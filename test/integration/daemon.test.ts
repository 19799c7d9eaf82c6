import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { TestNode } from '../harness/node.ts';

/** The program kelyfos: what an operator types. */
const program = join(import.meta.dirname, '../../bin/kelyfos');
let node: TestNode;

beforeAll(async () => {
  node = await TestNode.start();
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

test('the socket is its owner’s only', async () => {
  expect(((await stat(node.daemon.socket)).mode & 0o777).toString(8)).toBe('600');
});

test('a second daemon on the same root is refused', async () => {
  const { configFile, root, state } = node.daemon;
  const args = [
    'daemon',
    '--config',
    configFile,
    '--root',
    root,
    '--state',
    state,
    '--socket',
    join(node.daemon.folder, 'other.sock'),
  ];
  const { exitCode, stderr } = await execa(program, args, { reject: false, timeout: 30_000 });
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining(`${root} is in use by another daemon`)]);
});

test('one line at the start says what matters', async () => {
  const line = (await node.daemon.log()).split('\n').find((text) => text.includes('"kelyfos is ready"')) ?? '{}';
  expect(JSON.parse(line)).toMatchObject({
    version: expect.stringMatching(/^\d+\.\d+\.\d+/) as unknown,
    accelerator: 'tcg',
    qemu: expect.stringMatching(/^\d+\.\d+/) as unknown,
    kernel: expect.any(String) as unknown,
    cni: expect.any(String) as unknown,
  });
});

test('kelyfos run streams output and returns the exit code, like a process', async () => {
  const run = (...args: readonly string[]): Promise<{ exitCode?: number; stdout: string; stderr: string }> =>
    execa(program, ['run', '--socket', node.daemon.socket, node.image, '--', ...args], {
      reject: false,
      timeout: 60_000,
      stripFinalNewline: false,
    });
  const done = await run('sh', '-c', 'echo out; echo err >&2; exit 3');
  expect([done.exitCode, done.stdout, done.stderr]).toEqual([3, 'out\n', expect.stringContaining('err\n')]);
  expect((await run('/nope')).exitCode).toBe(127);
  expect((await node.daemon.cri.call('ListPodSandbox', {})).items).toEqual([]);
});

test('kelyfos run cleans up on Ctrl-C', async () => {
  const running = execa(
    program,
    ['run', '--socket', node.daemon.socket, node.image, '--', 'sh', '-c', 'echo up; sleep 1000'],
    { reject: false, timeout: 60_000 },
  );
  for await (const line of running) {
    expect(line).toBe('up');
    running.kill('SIGINT');
  }
  expect((await running).exitCode).toBe(130);
  expect((await node.daemon.cri.call('ListPodSandbox', {})).items).toEqual([]);
});

test('a bad configuration is refused as a whole, each problem with file and key', async () => {
  const file = join(node.daemon.folder, 'bad.toml');
  await writeFile(file, 'root = "relative"\n[vm]\naccelerator = "warp"\nqemuu = "x"\n');
  const { exitCode, stderr } = await execa(program, ['daemon', '--config', file], { reject: false, timeout: 30_000 });
  expect(exitCode).toBe(1);
  for (const part of [file, 'root', 'relative', 'vm.accelerator', 'warp', 'vm.qemuu']) expect(stderr).toContain(part);
});

test('help and version', async () => {
  expect((await execa(program, ['--help'])).stdout).toMatch(/daemon[\s\S]*run[\s\S]*config/);
  expect((await execa(program, ['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+/);
  expect((await execa(program, ['config', '--config', node.daemon.configFile])).stdout).toContain(
    '[vm.classes.default]',
  );
});
