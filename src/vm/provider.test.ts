import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import pino from 'pino';
import { untraced } from './step-trace.ts';
import { fixture, mebibyte, smallClass, type Fixture } from './testing/fixture.ts';
import type { QemuVmProvider } from './provider.ts';
import type { FakeAgent } from './testing/fake-host.ts';

const signal = new AbortController().signal;
const request = { className: 'small' };
let on: Fixture;

beforeEach(async () => {
  on = await fixture();
});

afterEach(async () => {
  await on.host.remove();
});

async function filled(provider: QemuVmProvider<FakeAgent>): Promise<void> {
  for (let tries = 0; provider.pools().some(({ idle, size }) => idle < size); tries++) {
    if (tries > 200) throw new Error('the pool does not fill');
    await delay(10);
  }
}

test('a claim without pool is a clone, and the template is made once', async () => {
  const provider = on.provider([smallClass]);
  const vms = await Promise.all([1, 2, 3].map(() => provider.claim(request, untraced, signal)));
  expect(vms.map((vm) => vm.origin)).toEqual(['clone', 'clone', 'clone']);
  expect(on.hypervisor.modes.filter((mode) => mode === 'template')).toHaveLength(1);
  expect([...on.memories.held.values()]).toEqual([{ sealed: true }]);
});

test('a claim takes a rehearsed, paused clone of the pool and resumes it', async () => {
  const provider = on.provider([{ ...smallClass, poolSize: 1 }]);
  await provider.start();
  await filled(provider);
  expect(on.guest.rehearsals).toBe(2);
  expect(on.hypervisor.running().map((machine) => machine.state)).toEqual(['paused']);
  const vm = await provider.claim(request, untraced, signal);
  expect(vm.origin).toBe('pool');
  expect(on.hypervisor.running().some((machine) => machine.state === 'running')).toBe(true);
  await provider.stop();
  await vm.destroy();
  expect(on.hypervisor.running()).toHaveLength(0);
});

test('pools tell how claims have fared, and empty when the host has no memory to spare', async () => {
  const provider = on.provider([{ ...smallClass, poolSize: 1, poolMax: 3, rehearse: false }]);
  await provider.start();
  await filled(provider);
  for (let pod = 0; pod < 2; pod += 1) await provider.claim(request, untraced, signal);
  expect(provider.pools()).toMatchObject([{ className: 'small', size: 2, floor: 1, ceiling: 3, hits: 1, misses: 1 }]);
  await filled(provider);

  on.memory.availableBytes = 0;
  while (provider.pools()[0]?.idle !== 0) await provider.adjustPools();
  expect(provider.memoryShortage).toBe('0 MiB available, 0 MiB wanted');
  expect((await provider.claim(request, untraced, signal)).origin).toBe('clone');
  on.memory.availableBytes = 2;
  await provider.adjustPools();
  await filled(provider);
  expect(provider.pools()[0]?.idle).toBeGreaterThan(0);
  await provider.stop();
});

test('pooled clones hold the images that are here, and are replaced when another one comes', async () => {
  on.guest.images.set('web', 'sha256:1');
  const provider = on.provider([{ ...smallClass, poolSize: 1, warmImages: ['web', 'shell'] }]);
  await provider.start();
  await filled(provider);
  await provider.adjustPools();
  expect(on.guest.warmed).toEqual([['sha256:1']]);
  on.guest.images.set('shell', 'sha256:2');
  await provider.adjustPools();
  await filled(provider);
  await provider.adjustPools();
  expect(on.guest.warmed).toEqual([['sha256:1'], ['sha256:1', 'sha256:2']]);
  on.guest.images.delete('web');
  await provider.adjustPools();
  await filled(provider);
  expect(on.guest.warmed).toHaveLength(2);
  await provider.stop();
});

test('pooled clones have the network of the pod to come, and are replaced when it would be another one', async () => {
  const provider = on.provider([{ ...smallClass, poolSize: 1 }]);
  on.guest.network = 'one';
  await provider.start();
  await filled(provider);
  expect(on.guest.networks.size).toBe(1);
  on.guest.network = undefined;
  await provider.adjustPools();
  expect(provider.pools()).toMatchObject([{ idle: 1, outdated: 0 }]);
  on.guest.network = '';
  expect(provider.pools()).toMatchObject([{ idle: 1, outdated: 1 }]);
  on.guest.network = 'two';
  const [before] = on.guest.networks.values();
  expect(provider.pools()).toMatchObject([{ idle: 1, outdated: 1 }]);
  await provider.adjustPools();
  await filled(provider);
  const [[podId, vmId] = []] = on.guest.networks;
  expect([on.guest.networks.size, vmId === before]).toEqual([1, false]);

  const vm = await provider.claim(request, untraced, signal);
  expect([vm.id, vm.podId]).toEqual([vmId, podId]);
  await provider.stop();
  // That of the pod is not taken away by the end of its machine, those of nobody are.
  await vm.destroy();
  expect([...on.guest.networks.keys()]).toEqual([podId]);
});

test('a clone whose network cannot be made waits without, and is not tried again and again', async () => {
  const provider = on.provider([{ ...smallClass, poolSize: 1 }]);
  on.guest.network = 'one';
  on.guest.attachNetwork = () => Promise.reject(new Error('no address is free'));
  await provider.start();
  await filled(provider);
  expect(provider.pools()).toMatchObject([{ idle: 1, outdated: 0 }]);
  // Something of the network may be there, and goes by that id.
  expect((await provider.claim(request, untraced, signal)).podId).toBe('pod-1');
  await provider.stop();
});

test('a machine of the pool that cannot go on leaves no network', async () => {
  const provider = on.provider([{ ...smallClass, poolSize: 1 }]);
  on.guest.network = 'one';
  await provider.start();
  await filled(provider);
  const [machine] = on.hypervisor.running();
  if (machine === undefined) throw new Error('no machine');
  machine.resume = () => Promise.reject(new Error('it is gone'));
  const vm = await provider.claim(request, untraced, signal);
  expect([vm.origin, vm.podId]).toEqual(['clone', undefined]);
  await provider.stop();
  expect(on.guest.networks.size).toBe(0);
});

test('a class without rehearsal has none', async () => {
  const provider = on.provider([{ ...smallClass, poolSize: 1, rehearse: false }]);
  await provider.start();
  await filled(provider);
  expect(on.guest.rehearsals).toBe(0);
  await provider.stop();
});

test('a vm is booted when no template can be made', async () => {
  const provider = on.provider([smallClass]);
  on.guest.warm = () => Promise.reject(new Error('the guest hangs'));
  const vm = await provider.claim(request, untraced, signal);
  expect(vm.origin).toBe('cold');
  expect(on.memories.held.size).toBe(0);
  await vm.destroy();
  expect(on.host.netns.size).toBe(0);
  // The failure is remembered: the next claim does not wait for another attempt.
  expect((await provider.claim(request, untraced, signal)).origin).toBe('cold');
  expect(on.hypervisor.modes.filter((mode) => mode === 'template')).toHaveLength(1);
});

test('a template that no clone starts from is made again', async () => {
  const provider = on.provider([smallClass]);
  const restore = on.hypervisor.restore.bind(on.hypervisor);
  on.hypervisor.restore = () => Promise.reject(new Error('state does not load'));
  for (let clones = 0; clones < 3; clones++) {
    expect((await provider.claim(request, untraced, signal)).origin).toBe('cold');
  }
  expect(on.memories.held.size).toBe(0);
  on.hypervisor.restore = restore;
  expect((await provider.claim(request, untraced, signal)).origin).toBe('clone');
  expect(on.hypervisor.modes.filter((mode) => mode === 'template')).toHaveLength(2);
});

test('clones that fail are warned of once, and again only after one has worked', async () => {
  const lines: string[] = [];
  const told = await fixture(pino({ level: 'warn' }, { write: (line: string) => lines.push(line) }));
  try {
    const provider = told.provider([smallClass]);
    const restore = told.hypervisor.restore.bind(told.hypervisor);
    for (const incidents of [1, 2]) {
      told.hypervisor.restore = () => Promise.reject(new Error('state does not load'));
      for (let clones = 0; clones < 3; clones++) await provider.claim(request, untraced, signal);
      told.hypervisor.restore = restore;
      expect((await provider.claim(request, untraced, signal)).origin).toBe('clone');
      expect(lines).toHaveLength(incidents);
    }
    expect(lines[0]).toContain('no clone for vm class small, booting a vm instead');
  } finally {
    await told.host.remove();
  }
});

test('a template whose memory is gone is made again, with a warning', async () => {
  const lines: string[] = [];
  const told = await fixture(pino({ level: 'warn' }, { write: (line: string) => lines.push(line) }));
  try {
    const provider = told.provider([smallClass]);
    await provider.claim(request, untraced, signal);
    told.memories.held.clear();
    expect((await provider.claim(request, untraced, signal)).origin).toBe('clone');
    expect(lines).toEqual([expect.stringMatching(/cannot be used and is made again: process \d+/)]);
    await provider.claim(request, untraced, signal);
    expect(lines).toHaveLength(1);
  } finally {
    await told.host.remove();
  }
});

test('a pod that asks for more than its class gets a bigger vm', async () => {
  const provider = on.provider([smallClass]);
  const vm = await provider.claim({ ...request, memoryBytes: 1024 * mebibyte }, untraced, signal);
  expect(vm.origin).toBe('cold');
  expect((await provider.claim({ ...request, memoryBytes: 256 * mebibyte }, untraced, signal)).origin).toBe('clone');
});

test('an unknown class is an error that names it', async () => {
  await expect(on.provider([smallClass]).claim({ className: 'huge' }, untraced, signal)).rejects.toThrow('huge');
});

test('a later daemon adopts a vm and knows its disks', async () => {
  const provider = on.provider([smallClass]);
  const vm = await provider.claim(request, untraced, signal);
  const image = join(on.host.folder, 'image');
  await writeFile(image, 'x');
  const serial = await vm.attachDisk(image, signal);

  const later = on.restarted();
  const adopted = await later.provider([smallClass]).adopt(vm.id);
  expect(adopted?.pid).toBe(vm.pid);
  await adopted?.detachDisk(serial);
  expect(on.hypervisor.running()[0]?.hotAdded.size).toBe(0);
  await adopted?.destroy();
  expect(on.host.netns.size).toBe(0);
});

test('adopting a vm that is gone removes what is left of it', async () => {
  const vm = await on.provider([smallClass]).claim(request, untraced, signal);
  on.hypervisor.running()[0]?.die('killed');
  const later = on.restarted().provider([smallClass]);
  await expect(later.adopt(vm.id)).resolves.toBeUndefined();
  expect(on.host.netns.size).toBe(0);
  expect(await readdir(join(on.host.services.folders.state, 'vms'))).toEqual([]);
  await expect(later.adopt('0123456789abcdef')).resolves.toBeUndefined();
});

test('the sweep deletes what nobody owns, and only that', async () => {
  const [kept, lost] = await Promise.all([1, 2].map(() => on.provider([smallClass]).claim(request, untraced, signal)));
  const later = on.restarted();
  const provider = later.provider([smallClass]);
  const own = await provider.claim(request, untraced, signal);
  expect(await provider.sweep(new Set([kept!.id]))).toEqual([lost!.id]);
  expect([...on.host.netns].sort()).toEqual([kept!.id, own.id].sort());
  expect(await provider.sweep(new Set([kept!.id]))).toEqual([]);
});

test('a damaged record does not keep the sweep from removing a vm', async () => {
  const vm = await on.provider([smallClass]).claim(request, untraced, signal);
  await writeFile(join(on.host.services.folders.state, 'vms', vm.id, 'vm.json'), '{');
  expect(await on.restarted().provider([smallClass]).sweep(new Set())).toContain(vm.id);
  expect(await readdir(join(on.host.services.folders.state, 'vms'))).toEqual([]);
});

test('a template survives the daemon; another guest image makes another one', async () => {
  const vm = await on.provider([smallClass]).claim(request, untraced, signal);
  const later = on.restarted();
  await later.provider([smallClass]).claim(request, untraced, signal);
  expect(on.hypervisor.modes.filter((mode) => mode === 'template')).toHaveLength(1);
  on.hypervisor.version = 'fake 2';
  const [former] = on.memories.held.keys();
  const upgraded = on.restarted().provider([smallClass]);
  await upgraded.start();
  expect(on.memories.held.has(former ?? 0)).toBe(false);
  await upgraded.claim(request, untraced, signal);
  expect(on.hypervisor.modes.filter((mode) => mode === 'template')).toHaveLength(2);
  expect(on.memories.held.size).toBe(1);
  await vm.destroy();
});
