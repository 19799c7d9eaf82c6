import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { fixture, order, type Fixture } from './testing/fixture.ts';

const signal = new AbortController().signal;
let on: Fixture;

beforeEach(async () => {
  on = await fixture();
});

afterEach(async () => {
  await on.host.remove();
});

/** Everything a VM can leave behind, by name. */
async function traces(): Promise<Record<string, number>> {
  const entries = async (path: string): Promise<number> => (await readdir(path).catch(() => [])).length;
  const { state, root } = on.host.services.folders;
  return {
    machines: on.hypervisor.running().length,
    agents: on.guest.open().length,
    netns: on.host.netns.size,
    cgroups: on.host.cgroups.size,
    state: await entries(join(state, 'vms')),
    disks: await entries(join(root, 'vms')),
    live: on.factory.live.size,
  };
}

const none = { machines: 0, agents: 0, netns: 0, cgroups: 0, state: 0, disks: 0, live: 0 };
const one = { machines: 1, agents: 1, netns: 1, cgroups: 1, state: 1, disks: 1, live: 1 };
const template = { memory: { path: '/proc/1/fd/3' }, stateFile: '/state' };

const kinds = [
  ['boot', () => on.factory.boot(order, signal)],
  ['clone', () => on.factory.clone(order, template, signal)],
] as const;

describe.each(kinds)('%s', (_name, make) => {
  test('makes all of a vm, and destroy removes all of it', async () => {
    const vm = await make();
    expect(await traces()).toEqual(one);
    await vm.destroy();
    await vm.destroy();
    expect(await traces()).toEqual(none);
  });

  test('makes a vm whose network namespace outlives its halt', async () => {
    const vm = await make();
    await vm.halt();
    await vm.halt();
    expect(await traces()).toEqual({ ...none, netns: 1, live: 1 });
    await vm.destroy();
    expect(await traces()).toEqual(none);
  });

  test('leaves nothing whichever step fails, and works when tried again', async () => {
    await (await make()).destroy();
    const steps = on.fail.passed.length;
    expect(steps).toBeGreaterThan(5);
    for (let step = 0; step < steps; step++) {
      on.fail.failAt(step);
      await expect(make()).rejects.toThrow('injected failure');
      expect(await traces()).toEqual(none);
      on.fail.failAt(undefined);
      const vm = await make();
      expect(await traces()).toEqual(one);
      await vm.destroy();
      expect(await traces()).toEqual(none);
    }
  });
});

test('a qemu that ends before its guest answers fails the start with its reason', async () => {
  on.guest.ready = () => {
    on.hypervisor.machines[0]?.die('qemu ended with code 1; stderr: no such machine');
    return new Promise(() => undefined);
  };
  await expect(on.factory.boot(order, signal)).rejects.toThrow(/no such machine/);
  expect(await traces()).toEqual(none);
});

test('two live vms never share a user id', async () => {
  if (process.getuid?.() !== 0) return; // one id is all there is without root
  const vms = await Promise.all(Array.from({ length: 5 }, () => on.factory.boot(order, signal)));
  const { uids } = on.host.services;
  const next = uids.acquire();
  expect(next).toBeGreaterThan(5);
  await Promise.all(vms.map((vm) => vm.destroy()));
});
