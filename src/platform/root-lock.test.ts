import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { lockRoot } from './root-lock.ts';

let root: string;

beforeEach(async () => {
  root = join(await mkdtemp(join(tmpdir(), 'kelyfos-lock-')), 'root');
});
afterEach(async () => {
  await rm(join(root, '..'), { recursive: true });
});

test('one at a time; the message names the holder', async () => {
  const lock = await lockRoot(root);
  await expect(lockRoot(root)).rejects.toThrow(`${root} is in use by another daemon (pid ${String(process.pid)})`);
  lock.release();
  (await lockRoot(root)).release();
});

test('two that start together: exactly one wins', async () => {
  const results = await Promise.allSettled([lockRoot(root), lockRoot(root), lockRoot(root)]);
  const locks = results.filter((result) => result.status === 'fulfilled');
  expect(locks).toHaveLength(1);
  locks[0]?.value.release();
});

test('children do not keep it', async () => {
  const lock = await lockRoot(root);
  const child = spawn('sleep', ['30'], { stdio: 'ignore' });
  lock.release();
  (await lockRoot(root)).release();
  child.kill();
});

test('a process killed with SIGKILL gives it back', async () => {
  const script = `
    const { lockRoot } = await import(${JSON.stringify(new URL('root-lock.ts', import.meta.url).href)});
    await lockRoot(${JSON.stringify(root)});
    console.log('locked');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  await expect(lockRoot(root)).rejects.toThrow(`(pid ${String(child.pid)})`);
  child.kill('SIGKILL');
  await once(child, 'exit');
  (await lockRoot(root)).release();
});
