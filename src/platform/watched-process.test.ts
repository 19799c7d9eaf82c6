import { Readable } from 'node:stream';
import { expect, test } from '@jest/globals';
import { AppError } from './errors.ts';
import { runWatched, type WatchedCommand, type WatchedExit } from './watched-process.ts';

const never = new AbortController().signal;
const run = (script: string, more: Partial<WatchedCommand> = {}, signal = never): Promise<WatchedExit> =>
  runWatched(
    {
      name: 'it',
      argv: ['sh', '-c', script],
      env: { PATH: '/usr/bin:/bin' },
      stallMs: 10_000,
      maxOutputBytes: 1_000,
      ...more,
    },
    signal,
  );

test('output, exit code and the environment given', async () => {
  expect(await run('echo out; echo err >&2; exit 3')).toMatchObject({ code: 3, signal: undefined, stderr: 'err' });
  expect((await run('env', { env: { PATH: '/usr/bin:/bin', ONLY: 'this' } })).stdout.toString()).not.toContain('HOME');
  expect(await run('kill -9 $$')).toMatchObject({ code: undefined, signal: 'SIGKILL' });
});

test('a stream is handed over', async () => {
  const exit = await run('cat', { stdin: Readable.from(['a', 'b'], { objectMode: false }) });
  expect(exit.stdout.toString()).toBe('ab');
});

test('a child that does not want all of its input is fine, a stream that breaks is not', async () => {
  const long = Readable.from([Buffer.alloc(1 << 20), Buffer.alloc(1 << 20)], { objectMode: false });
  expect((await run('head -c 1 >/dev/null', { stdin: long })).code).toBe(0);
  const broken = new Readable({
    read() {
      this.destroy(new AppError('failed-precondition', 'cut off'));
    },
  });
  await expect(run('cat', { stdin: broken })).rejects.toMatchObject({
    kind: 'failed-precondition',
    message: 'it: cut off',
  });
});

test('one that gets nowhere is killed, with all it started', async () => {
  const started = performance.now();
  await expect(run('echo last words >&2; sleep 30 & sleep 30', { stallMs: 700 })).rejects.toMatchObject({
    kind: 'deadline',
    message: 'it: no progress for 1 s: last words',
  });
  expect(performance.now() - started).toBeLessThan(3_000);
});

test('progress keeps it alive', async () => {
  let measure = 0;
  const progress = (): Promise<number> => Promise.resolve((measure += 1));
  expect((await run('sleep 1.5', { stallMs: 700, progress })).code).toBe(0);
});

test('cancelling kills it; one that is cancelled already is not started', async () => {
  const cancelled = new AbortController();
  const running = run('sleep 30', {}, cancelled.signal);
  setTimeout(() => {
    cancelled.abort();
  }, 50);
  await expect(running).rejects.toMatchObject({ kind: 'cancelled' });
  await expect(run('exit 0', {}, cancelled.signal)).rejects.toMatchObject({ kind: 'cancelled' });
});

test('too much output is an error', async () => {
  await expect(run('yes')).rejects.toMatchObject({ kind: 'exhausted' });
});
