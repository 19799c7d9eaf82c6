import { copyFile, mkdir, readdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { installDir } from '../../src/config/install-dir.ts';
import { isAlive, type ProcessIdentity } from '../../src/platform/processes.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { kelyfos } from '../harness/kelyfos.ts';
import { TestNode, type Pod } from '../harness/node.ts';

/** Templates from their making to the end of their last clone, over restarts of the daemon and updates of the guest. */
let node: TestNode;
let folder: string;
let pod: Pod;
let container: string;
let first: Template;

interface Template {
  readonly key: string;
  readonly holder: ProcessIdentity;
}

beforeAll(async () => {
  folder = await freeFolder('template');
  node = await TestNode.start({ config: { vm: { classes: { default: { memory: '512MiB', pool: 0 } } } } });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
  await removeFolder(folder);
});

/** The only template there is, once it is complete. */
async function template(timeoutMs = 60_000): Promise<Template> {
  for (const deadline = Date.now() + timeoutMs; ;) {
    const { text } = await kelyfos(node.daemon.socket, ['pool', '--json']);
    const { classes } = JSON.parse(text) as { readonly classes: readonly { readonly template: string }[] };
    if (classes[0]?.template === 'ready') break;
    if (Date.now() > deadline) throw new Error(`no template after ${String(timeoutMs)} ms: ${text}`);
    await delay(100);
  }
  const templates = join(node.daemon.state, 'templates');
  const keys = await readdir(templates);
  expect(keys).toHaveLength(1);
  return JSON.parse(await readFile(join(templates, keys[0] ?? '', 'template.json'), 'utf8')) as Template;
}

/** Processes that have the memory of a template mapped. */
async function mappedBy({ key }: Template): Promise<readonly number[]> {
  const name = `/memfd:kelyfos-${key.slice(0, 12)} `;
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry));
  const maps = await Promise.all(
    // Some end while we look.
    pids.map(async (pid) => [Number(pid), await readFile(`/proc/${pid}/maps`, 'utf8').catch(() => '')] as const),
  );
  return maps.filter(([, text]) => text.includes(name)).map(([pid]) => pid);
}

async function restart(): Promise<void> {
  await node.daemon.stop();
  await node.daemon.start();
}

test('the template is made when the daemon starts, without a pod', async () => {
  first = await template();
  expect(await isAlive(first.holder)).toBe(true);
  expect(await mappedBy(first)).toEqual([]);
  pod = await node.runPod();
  expect((await node.vmOf(pod)).origin).toBe('clone');
  container = await node.startContainer(pod);
  expect(await mappedBy(first)).toEqual([await node.qemuPid(pod)]);
});

test('the next daemon uses it', async () => {
  await restart();
  expect(await template()).toEqual(first);
  const another = await node.runPod();
  expect((await node.vmOf(another)).origin).toBe('clone');
  await node.removePod(another);
});

test('another guest image makes another template; clones of the former one go on', async () => {
  const image = join(folder, 'image');
  const current = await realpath(join(installDir, 'guest/image/current'));
  await mkdir(image);
  for (const file of ['vmlinux', 'initramfs']) await copyFile(join(current, file), join(image, file));
  const manifest = JSON.parse(await readFile(join(current, 'guest.json'), 'utf8')) as Readonly<Record<string, unknown>>;
  await writeFile(join(image, 'guest.json'), JSON.stringify({ ...manifest, key: 'updated' }));
  const dropIns = join(dirname(node.daemon.configFile), 'config.d');
  await mkdir(dropIns);
  await writeFile(join(dropIns, 'guest.toml'), `[vm]\nguest = "${image}"\n`);
  await restart();
  const second = await template();
  expect(second.key).not.toBe(first.key);
  expect(await isAlive(first.holder)).toBe(false);

  expect(await node.sh(container, 'echo still there')).toBe('still there');
  const fresh = await node.runPod();
  expect((await node.vmOf(fresh)).origin).toBe('clone');
  expect(await mappedBy(second)).toEqual([await node.qemuPid(fresh)]);
  await node.removePod(fresh);
});

test('the memory of a template goes with its last clone', async () => {
  expect(await mappedBy(first)).toEqual([await node.qemuPid(pod)]);
  await node.removePod(pod);
  expect(await mappedBy(first)).toEqual([]);
});
