import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { FakePlugins } from '../testing/fake-plugins.ts';
import { LocalNetworker } from '../testing/local-networker.ts';
import { identify, waitGone } from '../../platform/processes.ts';
import { PluginRunner } from './invoke.ts';

describe('calling a plugin', () => {
  let fake: FakePlugins;
  let runner: PluginRunner;

  beforeEach(async () => {
    fake = new FakePlugins();
    await fake.install('net');
    runner = new PluginRunner({ programs: new LocalNetworker(), binDirs: ['/no/such/dir', fake.binDir] });
  });

  afterEach(() => fake.remove());

  test('finds the program in the first directory that has it', async () => {
    expect(await runner.find('net')).toBe(join(fake.binDir, 'net'));
    await expect(runner.find('nat')).rejects.toMatchObject({
      kind: 'failed-precondition',
      message: `CNI plugin "nat" is not in /no/such/dir, ${fake.binDir}`,
    });
  });

  test.each([
    [`echo '{"code":7,"msg":"bad","details":"more"}'; exit 1`, 'failed-precondition', 'bad: more (code 7)'],
    [`echo '{"code":11,"msg":"later"}'; exit 1`, 'unavailable', 'later (code 11)'],
    [`echo '{"code":999}'; echo 'panic: boom' >&2; exit 2`, 'internal', 'panic: boom (code 999)'],
    [`echo 'segfault' >&2; exit 139`, 'internal', 'exit code 139: segfault'],
    [`exit 3`, 'internal', 'exit code 3: no error message'],
    [`kill -KILL $$`, 'internal', 'SIGKILL: no error message'],
    [`echo plain words; exit 0`, 'internal', 'its output is not JSON: plain words'],
  ])('makes an error of: %s', async (line, kind, message) => {
    await fake.behaves('net', 'ADD', line);
    await expect(runner.run('ADD', 'net', {}, {})).rejects.toMatchObject({
      kind,
      message: `CNI plugin net (ADD): ${message}`,
    });
  });

  test('cancelling ends the plugin and the programs it has started', async () => {
    await fake.behaves('net', 'ADD', 'sleep 300 & echo $! > "$root/child"', 'wait');
    const controller = new AbortController();
    const run = runner.run('ADD', 'net', {}, {}, controller.signal);
    while (!existsSync(join(fake.root, 'child'))) await delay(5);
    const pid = Number(await readFile(join(fake.root, 'child'), 'utf8'));
    const started = await identify(pid);
    controller.abort();
    await expect(run).rejects.toMatchObject({ kind: 'cancelled', message: 'CNI plugin net (ADD): cancelled' });
    expect(await waitGone(started!, 1_000)).toBe(true);
  });

  test('a plugin that gives no answer is ended', async () => {
    await fake.behaves('net', 'DEL', 'exec sleep 300');
    const impatient = new PluginRunner({ programs: new LocalNetworker(), binDirs: [fake.binDir], timeoutMs: 100 });
    await expect(impatient.run('DEL', 'net', {}, {})).rejects.toMatchObject({
      kind: 'deadline',
      message: 'CNI plugin net (DEL): no answer in 100 ms',
    });
  });

  test('does not start when cancelled before', async () => {
    await expect(runner.run('ADD', 'net', {}, {}, AbortSignal.abort())).rejects.toMatchObject({ kind: 'cancelled' });
    expect(await fake.calls()).toEqual([]);
  });
});
