import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { identify, terminate } from '../../src/platform/processes.ts';
import { TestNode, type Pod } from '../harness/node.ts';

/** A template that has become useless costs a pod time, never its start. */
let node: TestNode;

beforeAll(async () => {
  node = await TestNode.start({ config: { vm: { classes: { default: { pool: 0 } } } } });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

async function templateFolder(): Promise<string> {
  const templates = join(node.daemon.state, 'templates');
  const [only, ...more] = await readdir(templates);
  if (only === undefined || more.length > 0) throw new Error(`not one template in ${templates}`);
  return join(templates, only);
}

async function holderOf(folder: string): Promise<number> {
  const record = JSON.parse(await readFile(join(folder, 'template.json'), 'utf8')) as { holder: { pid: number } };
  return record.holder.pid;
}

/** Warnings that came while `work` went on. */
async function warningsDuring(work: () => Promise<void>): Promise<string[]> {
  const { length } = await node.daemon.log();
  await work();
  return (await node.daemon.log())
    .slice(length)
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { readonly level: string; readonly msg: string })
    .filter(({ level }) => level === 'warn' || level === 'error')
    .map(({ msg }) => msg);
}

/** Runs a pod with a program in it; where its VM came from. */
async function originOfNext(): Promise<string> {
  const pod: Pod = await node.runPod();
  expect((await node.runToEnd(pod, { command: ['echo', 'works'] })).output).toBe('works');
  const { origin } = await node.vmOf(pod);
  await node.removePod(pod);
  return origin;
}

test('damaged state: pods boot, with one warning, until the template is made again', async () => {
  expect(await originOfNext()).toBe('clone');
  const folder = await templateFolder();
  const holder = await holderOf(folder);
  await writeFile(join(folder, 'state'), 'no state of any machine');
  const origins: string[] = [];
  const warnings = await warningsDuring(async () => {
    for (let pods = 0; pods < 4; pods += 1) origins.push(await originOfNext());
  });
  expect(origins).toEqual(['cold', 'cold', 'cold', 'clone']);
  expect(warnings).toEqual([expect.stringMatching(/^no clone for vm class default, booting a vm instead: \S/)]);
  expect(await holderOf(await templateFolder())).not.toBe(holder);
}, 240_000);

test('the keeper of the memory is gone: the template is made again, with one warning', async () => {
  expect(await originOfNext()).toBe('clone');
  const holder = await holderOf(await templateFolder());
  const keeper = await identify(holder);
  if (keeper === undefined) throw new Error(`no process ${String(holder)}`);
  await terminate(keeper, 0);
  const origins: string[] = [];
  const warnings = await warningsDuring(async () => {
    for (let pods = 0; pods < 2; pods += 1) origins.push(await originOfNext());
  });
  expect([origins, warnings]).toEqual([
    ['clone', 'clone'],
    [expect.stringMatching(/^template \w+ cannot be used and is made again: process \d+, which held its memory/)],
  ]);
}, 180_000);
