import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { TestNode } from '../harness/node.ts';

/** crictl as a user has it, through a whole life of a pod. */
let node: TestNode;

beforeAll(async () => {
  node = await TestNode.start();
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

interface Listed {
  readonly items?: readonly { readonly id: string; readonly state: string }[];
  readonly containers?: readonly { readonly id: string; readonly state: string }[];
}

async function configFile(name: string, content: unknown): Promise<string> {
  await mkdir(node.daemon.scratch, { recursive: true });
  const path = join(node.daemon.scratch, name);
  await writeFile(path, JSON.stringify(content));
  return path;
}

const podConfig = (name: string): Promise<string> =>
  configFile(`pod-${name}.json`, {
    metadata: { name, uid: `uid-${name}`, namespace: 'test', attempt: 0 },
    hostname: name,
    log_directory: join(node.daemon.scratch, 'logs'),
    linux: {},
  });

const containerConfig = (name: string, command: readonly string[]): Promise<string> =>
  configFile(`${name}.json`, {
    metadata: { name },
    image: { image: node.image },
    command,
    log_path: `${name}.log`,
    linux: {},
  });

test('info and version', async () => {
  const { crictl } = node.daemon;
  expect(await crictl.run('version')).toMatch(
    /RuntimeName:\s+kelyfos\nRuntimeVersion:\s+\d+\.\d+\.\d+\nRuntimeApiVersion:\s+v1/,
  );
  const info = (await crictl.json('info')) as { status: { conditions: { type: string; status: boolean }[] } };
  expect(info.status.conditions.filter(({ status }) => status).map(({ type }) => type)).toEqual(
    expect.arrayContaining(['RuntimeReady', 'NetworkReady']),
  );
});

test('images: pull, images, inspecti, imagefsinfo, rmi', async () => {
  const { crictl } = node.daemon;
  const other = `${node.registry.host}/kelyfos/busybox:test`;
  expect(await crictl.run('pull', other)).toMatch(/sha256:[0-9a-f]{64}/);
  const { images } = (await crictl.json('images', '-o', 'json')) as {
    images: { id: string; repoTags: string[]; size: string }[];
  };
  const image = images.find(({ repoTags }) => repoTags.includes(other));
  expect(Number(image?.size)).toBeGreaterThan(500_000);
  const { status } = (await crictl.json('inspecti', other)) as { status: { id: string } };
  expect(status.id).toBe(image?.id);
  expect(await crictl.run('imagefsinfo')).toMatch(/usedBytes/);
  expect(await crictl.run('rmi', other)).toMatch(/Deleted/);
  expect((await crictl.try('inspecti', other)).exitCode).not.toBe(0);
  await crictl.run('pull', other);
});

test('the life of a pod, command by command', async () => {
  const { crictl } = node.daemon;
  const pod = (await crictl.run('runp', await podConfig('life'))).trim();
  const { items } = (await crictl.json('pods', '-o', 'json')) as Listed;
  expect(items).toEqual([expect.objectContaining({ id: pod, state: 'SANDBOX_READY' })]);
  const inspected = (await crictl.json('inspectp', pod.slice(0, 13))) as {
    status: { network: { ip: string } };
    info: { pid: number };
  };
  expect(inspected.status.network.ip).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
  expect(inspected.info.pid).toBeGreaterThan(1);

  const script = 'echo out; echo err >&2; trap "exit 7" TERM; while true; do sleep 0.1; done';
  const container = (
    await crictl.run('create', pod, await containerConfig('shell', ['sh', '-c', script]), await podConfig('life'))
  ).trim();
  expect(((await crictl.json('ps', '-a', '-o', 'json')) as Listed).containers?.[0]?.state).toBe('CONTAINER_CREATED');
  await crictl.run('start', container);
  expect(((await crictl.json('ps', '-o', 'json')) as Listed).containers).toEqual([
    expect.objectContaining({ state: 'CONTAINER_RUNNING' }),
  ]);

  expect((await crictl.run('exec', '-s', container, 'echo', 'inside')).trim()).toBe('inside');
  expect((await crictl.try('exec', '-s', container, 'sh', '-c', 'exit 3')).stderr).toMatch(/exit code 3|exited with 3/);
  expect(await crictl.run('exec', '-s', container, 'uname', '-r')).not.toBe('');

  await crictl.run('stop', '-t', '20', container);
  const { status } = (await crictl.json('inspect', container)) as {
    status: { state: string; exitCode: number; reason: string };
  };
  expect(status).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 7, reason: 'Error' });
  const logs = await crictl.try('logs', container);
  expect([logs.stdout.trim(), logs.stderr.trim()]).toEqual(['out', 'err']);

  await crictl.run('rm', container);
  expect(((await crictl.json('ps', '-a', '-o', 'json')) as Listed).containers ?? []).toEqual([]);
  await crictl.run('stopp', pod);
  expect(((await crictl.json('pods', '-o', 'json')) as Listed).items?.[0]?.state).toBe('SANDBOX_NOTREADY');
  await crictl.run('rmp', pod);
  expect(((await crictl.json('pods', '-o', 'json')) as Listed).items ?? []).toEqual([]);
});

test('crictl run in one go', async () => {
  const { crictl } = node.daemon;
  const container = (
    await crictl.run('run', await containerConfig('once', ['echo', 'hello']), await podConfig('once'))
  ).trim();
  await node.waitExited(container);
  expect(await crictl.run('logs', container)).toBe('hello');
  await crictl.run('rmp', '-f', '-a');
});

test('what is not there is an error that names it', async () => {
  const { crictl } = node.daemon;
  for (const command of ['inspectp', 'inspect']) {
    const { exitCode, stderr, stdout } = await crictl.try(command, 'abcdef');
    expect(exitCode).not.toBe(0);
    expect(stderr + stdout).toContain('abcdef');
  }
});
