import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Crictl } from '../harness/crictl.ts';
import { TestNode } from '../harness/node.ts';
import { waitForPool } from '../harness/pool.ts';

/** crictl gives up after 2 s unless it is told otherwise: with a full pool that is enough for every command. */
let node: TestNode;
let crictl: Crictl;

beforeAll(async () => {
  node = await TestNode.start({ config: { vm: { classes: { default: { pool: 1 } } } } });
  const folder = join(node.daemon.scratch, 'crictl');
  await mkdir(folder);
  crictl = await Crictl.create(folder, node.daemon.socket, {});
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

async function jsonFile(name: string, content: unknown): Promise<string> {
  const path = join(node.daemon.scratch, `${name}.json`);
  await writeFile(path, JSON.stringify(content));
  return path;
}

test('the life of a pod within its own time-out', async () => {
  const pod = await jsonFile('pod', {
    metadata: { name: 'quick', uid: 'uid-quick', namespace: 'test', attempt: 0 },
    hostname: 'quick',
    log_directory: join(node.daemon.scratch, 'logs'),
    linux: {},
  });
  const container = await jsonFile('container', {
    metadata: { name: 'shell' },
    image: { image: node.image },
    command: ['sleep', '1000'],
    log_path: 'shell.log',
    linux: {},
  });
  // Twice: the second pod is not the first of anything.
  for (let round = 0; round < 2; round += 1) {
    expect(await waitForPool(node.daemon.cri)).toBe(true);
    const podId = (await crictl.run('runp', pod)).trim();
    const id = (await crictl.run('create', podId, container, pod)).trim();
    await crictl.run('start', id);
    expect((await crictl.run('exec', '-s', id, 'hostname')).trim()).toBe('quick');
    await crictl.run('stopp', podId);
    await crictl.run('rmp', podId);
    const { items = [] } = (await crictl.json('pods', '-o', 'json')) as { readonly items?: readonly unknown[] };
    expect(items).toEqual([]);
  }
});
