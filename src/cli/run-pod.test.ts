import { appendFileSync, mkdirSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { CriClient } from '../cri/client.ts';
import { FakeDomain } from '../cri/fake-domain.ts';
import { type CriServer, serveCri } from '../cri/server.ts';
import { AppError } from '../platform/errors.ts';
import { silentLog } from '../platform/log.ts';
import type { Container } from '../podsandbox/model.ts';
import { PodRun } from './run-pod.ts';
import { parseRunRequest, type RunOptions } from './run-request.ts';

const none: RunOptions = { env: [], volume: [], publish: [], label: [], dns: [], stopTimeout: '10s', pull: 'missing' };

let folder: string;
let domain: FakeDomain;
let server: CriServer;
let client: CriClient;
let savedTemporary: string | undefined;
let written: { stdout: string; stderr: string };

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-cli-'));
  // Where PodRun puts its folder: ours alone, whoever else runs something.
  savedTemporary = process.env['TMPDIR'];
  process.env['TMPDIR'] = folder;
  domain = new FakeDomain();
  written = { stdout: '', stderr: '' };
  const runtime = {
    version: '0.1.0',
    handlers: ['kelyfos'],
    defaultHandler: 'kelyfos',
    cgroupDriver: 'cgroupfs' as const,
    mapsOwners: false,
    details: async () => ({}),
  };
  const { sandboxes, containers, resources, stats, events, images, archives, networks, streaming } = domain;
  const services = { sandboxes, containers, resources, stats, events, images, archives, networks, streaming, runtime };
  server = await serveCri(join(folder, 'cri.sock'), services, silentLog());
  client = new CriClient(join(folder, 'cri.sock'));
});
afterEach(async () => {
  if (savedTemporary === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = savedTemporary;
  client.close();
  await server.close(50);
  await rm(folder, { recursive: true });
});

function run(options: Partial<RunOptions> = {}, signal = new AbortController().signal): Promise<number> {
  const sink = (name: 'stdout' | 'stderr') =>
    new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        written[name] += chunk.toString();
        done();
      },
    });
  const request = parseRunRequest('localhost/app:1', [], { ...none, ...options }, {});
  return new PodRun(client, request, { stdout: sink('stdout'), stderr: sink('stderr') }, () => undefined).run(signal);
}

function log({ logPath }: Container, text: string): void {
  mkdirSync(dirname(logPath), { recursive: true });
  appendFileSync(logPath, text);
}

/** Nothing is left of a run: no pod, no folder. */
async function expectNothingLeft(): Promise<void> {
  expect(domain.sandboxes.list()).toEqual([]);
  expect(domain.containers.list()).toEqual([]);
  expect((await readdir(folder)).filter((name) => name.startsWith('kelyfos-run-'))).toEqual([]);
}

test('pulls, runs, copies the output as it comes, passes the exit code on, cleans up', async () => {
  domain.program = (container) => {
    log(container, '2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr P err');
    setTimeout(() => {
      log(container, 'or\n2026-01-01T00:00:00Z stdout P last');
      setTimeout(() => {
        log(container, ' words\n');
        domain.exit(container.id, 42);
      }, 60);
    }, 60);
  };
  expect(await run()).toBe(42);
  expect(written).toEqual({ stdout: 'one\nlast words', stderr: 'error' });
  expect(domain.auths).toHaveLength(1);
  await expectNothingLeft();
});

test('does not pull what is there, unless told to; never is never', async () => {
  domain.program = ({ id }) => {
    domain.exit(id, 0);
  };
  await expect(run({ pull: 'never' })).rejects.toThrow('image "localhost/app:1" is not here');
  domain.addImage({ id: `sha256:${'1'.repeat(64)}`, repoTags: ['localhost/app:1'] });
  expect(await run()).toBe(0);
  expect(domain.auths).toHaveLength(0);
  expect(await run({ pull: 'always' })).toBe(0);
  expect(domain.auths).toHaveLength(1);
});

test('an interrupt stops the container and leaves nothing', async () => {
  const interrupt = new AbortController();
  domain.program = (container) => {
    log(container, '2026-01-01T00:00:00Z stdout F running\n');
    setTimeout(() => {
      interrupt.abort();
    }, 50);
  };
  await expect(run({}, interrupt.signal)).rejects.toThrow();
  expect(domain.calls.filter((call) => call.startsWith('stop '))).toEqual([expect.stringMatching(/ 10$/)]);
  expect(written.stdout).toBe('running\n');
  await expectNothingLeft();
});

test('an interrupt while the pod is made cancels that', async () => {
  const interrupt = new AbortController();
  domain.hanging.add('run');
  setTimeout(() => {
    interrupt.abort();
  }, 100);
  await expect(run({}, interrupt.signal)).rejects.toThrow();
  await expectNothingLeft();
  expect(domain.calls).toContain('aborted run');
});

test('a time-out stops the container: 124, as timeout(1)', async () => {
  expect(await run({ timeout: '100ms', stopTimeout: '3s' })).toBe(124);
  expect(domain.calls.filter((call) => call.startsWith('stop '))).toEqual([expect.stringMatching(/ 3$/)]);
  await expectNothingLeft();
});

test.each([
  ['exec: "/nope": no such file or directory', 127],
  ['exec: "/etc": permission denied', 126],
])('a program that cannot be run, %s, gives %d', async (message, exitCode) => {
  domain.failures.set('start', new AppError('failed-precondition', message));
  await expect(run()).rejects.toMatchObject({ exitCode, message });
  await expectNothingLeft();
});

test('a failure of the runtime leaves nothing', async () => {
  domain.failures.set('create', new AppError('internal', 'boom'));
  await expect(run()).rejects.toThrow('boom');
  await expectNothingLeft();
});
