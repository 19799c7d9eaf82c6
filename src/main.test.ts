import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { execa } from 'execa';
import { programVersion } from './version.ts';

// Each call is a process of its own, which takes its time on a busy machine.
jest.setTimeout(60_000);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-main-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

async function kelyfos(...args: readonly string[]) {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  return execa(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args], {
    reject: false,
    timeout: 20_000,
    cwd: folder,
    env: { NODE_OPTIONS: '' },
  });
}

test('--version and --help', async () => {
  expect(await kelyfos('--version')).toMatchObject({ exitCode: 0, stdout: programVersion() });
  const help = await kelyfos('--help');
  expect(help.exitCode).toBe(0);
  expect(help.stdout).toContain('  image ');
  for (const command of ['daemon', 'run', 'config']) expect(help.stdout).toContain(`  ${command} [options]`);
});

test('bin/kelyfos keeps what Node has compiled where it is told to', async () => {
  const bin = fileURLToPath(new URL('../bin/kelyfos', import.meta.url));
  const kept = join(folder, 'compiled');
  const run = () => execa(bin, ['--version'], { timeout: 20_000, env: { NODE_OPTIONS: '', NODE_COMPILE_CACHE: kept } });
  expect((await run()).stdout).toBe(programVersion());
  const [version = ''] = await readdir(kept);
  expect(await readdir(join(kept, version))).not.toEqual([]);
  expect((await run()).stdout).toBe(programVersion());
});

test('config prints what a flag says, relative to where we are', async () => {
  await writeFile(join(folder, 'c.toml'), '[vm.classes.default]\npool = 7\n');
  const { exitCode, stdout } = await kelyfos('config', '--config', 'c.toml', '--socket', 'my.sock');
  expect(exitCode).toBe(0);
  expect(stdout).toContain(`socket = "${folder}/my.sock"`);
  expect(stdout).toContain('pool = 7');
});

test('a bad configuration ends daemon and config with every problem on stderr', async () => {
  await writeFile(join(folder, 'bad.toml'), 'rot = "/x"\n[log]\nlevel = 1\n');
  for (const command of ['config', 'daemon']) {
    const { exitCode, stdout, stderr } = await kelyfos(command, '--config', 'bad.toml');
    expect(exitCode).toBe(1);
    expect(stdout).toBe('');
    expect(stderr.split('\n')).toEqual([
      'kelyfos: 2 problems in the configuration:',
      `  ${folder}/bad.toml: log.level: found 1, accepted: one of "trace", "debug", "info", "warn", "error"`,
      `  ${folder}/bad.toml: rot: unknown key, did you mean "root"?`,
    ]);
  }
});

test('run without a daemon says what to do', async () => {
  const { exitCode, stderr } = await kelyfos('run', '--socket', '/no/such.sock', 'busybox', 'sh', '-c', 'x', '--flag');
  expect(exitCode).toBe(125);
  expect(stderr).toBe('kelyfos: no daemon answers at /no/such.sock; start one with: kelyfos daemon');
});

test('commands without a daemon, or without what they read, say so', async () => {
  const { exitCode, stderr } = await kelyfos('image', 'list', '--socket', '/no/such.sock');
  expect([exitCode, stderr]).toEqual([
    1,
    'kelyfos: no daemon answers at /no/such.sock; start one with: kelyfos daemon',
  ]);
  for (const command of [['pool'], ['trace', 'default/web']]) {
    const asked = await kelyfos(...command, '--socket', '/no/such.sock');
    expect(asked).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('no daemon answers at /no/such.sock') });
  }
  const missing = await kelyfos('image', 'import', 'none.tar', '--socket', '/no/such.sock');
  expect(missing).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('cannot read the archive: ENOENT') });
});

test('unknown commands and options are errors', async () => {
  expect(await kelyfos('fly')).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("unknown command 'fly'") });
  expect(await kelyfos('run', '-it', 'busybox')).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("unknown option '-it'"),
  });
});
