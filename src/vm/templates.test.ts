import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { QemuVmProvider } from './provider.ts';
import { untraced } from './step-trace.ts';
import type { FakeAgent } from './testing/fake-host.ts';
import { fixture, order, smallClass, type Fixture } from './testing/fixture.ts';
import type { VmOrder } from './vm-factory.ts';

const signal = new AbortController().signal;
const request = { className: 'small' };
let on: Fixture;

beforeEach(async () => {
  on = await fixture();
});

afterEach(async () => {
  await on.host.remove();
});

const made = (): number => on.hypervisor.modes.filter((mode) => mode === 'template').length;

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 400) throw new Error(`never: ${what}`);
    await delay(5);
  }
}

/** Keeps guests from getting warm until it is called; gives up with the signal, as a real guest does. */
function holdWarming(): () => void {
  const warm = Promise.withResolvers<undefined>();
  on.guest.warm = async (_vm, given) => {
    given.throwIfAborted();
    const gone = Promise.withResolvers<never>();
    given.addEventListener('abort', () => {
      gone.reject(new Error('aborted'));
    });
    await Promise.race([warm.promise, gone.promise]);
  };
  return () => {
    warm.resolve(undefined);
  };
}

function statusOf(provider: QemuVmProvider<FakeAgent>): readonly string[] {
  return provider.pools().map(({ template }) => template);
}

test('templates are made when the daemon starts, one after the other, before anybody asks', async () => {
  const big = { ...smallClass, name: 'big', memoryBytes: 2 * smallClass.memoryBytes };
  const cold = { ...smallClass, name: 'cold', template: false };
  const provider = on.provider([smallClass, big, cold]);
  const release = holdWarming();
  await provider.start();
  await until('the first is being made', () => made() === 1);
  expect(statusOf(provider)).toEqual(['making', 'unknown']);
  release();
  await until('both are ready', () => statusOf(provider).every((status) => status === 'ready'));
  expect(made()).toBe(2);
  expect((await provider.claim(request, untraced, signal)).origin).toBe('clone');
  expect(made()).toBe(2);
  await provider.stop();
});

test('who cannot wait for a template boots; it is made all the same, once', async () => {
  const provider = on.provider([smallClass], 20);
  const release = holdWarming();
  await provider.start();
  const early = await Promise.all([1, 2].map(() => provider.claim(request, untraced, signal)));
  expect(early.map(({ origin }) => origin)).toEqual(['cold', 'cold']);
  expect(statusOf(provider)).toEqual(['making']);
  release();
  await until('it is ready', () => statusOf(provider)[0] === 'ready');
  expect((await provider.claim(request, untraced, signal)).origin).toBe('clone');
  expect(made()).toBe(1);
  await provider.stop();
});

test('a caller who goes away while he waits does not end the making', async () => {
  const provider = on.provider([smallClass]);
  const release = holdWarming();
  const gone = new AbortController();
  const claim = provider.claim(request, untraced, gone.signal);
  await until('it is being made', () => made() === 1);
  gone.abort();
  await expect(claim).rejects.toThrow('wait for the template: cancelled');
  release();
  expect((await provider.claim(request, untraced, signal)).origin).toBe('clone');
  expect(made()).toBe(1);
});

test('a daemon that stops while it makes a template leaves nothing of it', async () => {
  const provider = on.provider([{ ...smallClass, poolSize: 1 }]);
  holdWarming();
  await provider.start();
  await until('it is being made', () => made() === 1);
  on.stopping.abort();
  await provider.stop();
  expect(on.hypervisor.running()).toEqual([]);
  expect(on.memories.held.size).toBe(0);
  expect(on.host.netns.size).toBe(0);
  expect(await readdir(join(on.host.folder, 'state', 'templates'))).toEqual([]);
});

test('what a daemon that died has half made is made again, and its memory freed', async () => {
  const folder = join(on.host.folder, 'state', 'templates', on.templates.key(order));
  const memory = await on.memories.create();
  await mkdir(folder, { recursive: true });
  const record = { version: 1, key: on.templates.key(order), complete: false, memoryBytes: order.shape.memoryBytes };
  await writeFile(
    join(folder, 'template.json'),
    JSON.stringify({ ...record, holder: memory.holder, createdAt: new Date(0).toISOString() }),
  );
  await on.templates.get(order, signal);
  expect(made()).toBe(1);
  expect([...on.memories.held]).toEqual([[memory.holder.pid + 1, { sealed: true }]]);
});

test('a template that cannot be made is tried again later, and its class says so', async () => {
  const { warm } = on.guest;
  on.guest.warm = () => Promise.reject(new Error('the guest hangs'));
  const provider = on.provider([smallClass]);
  await provider.start();
  await until('it has failed', () => statusOf(provider)[0] === 'failed');
  on.guest.warm = warm;
  expect((await provider.claim(request, untraced, signal)).origin).toBe('cold');
  expect(made()).toBe(1);
  await provider.stop();
});

const changes: readonly (readonly [what: string, changed: VmOrder])[] = [
  [
    'the guest image: kernel or agent',
    { ...order, shape: { ...order.shape, guest: { ...order.shape.guest, key: 'guest-2' } } },
  ],
  ['memory', { ...order, shape: { ...order.shape, memoryBytes: 2 * order.shape.memoryBytes } }],
  ['processors', { ...order, shape: { ...order.shape, vcpus: 2 } }],
  ['the accelerator', { ...order, shape: { ...order.shape, accelerator: 'kvm' } }],
  ['arguments for QEMU', { ...order, shape: { ...order.shape, extraArguments: ['-rtc', 'base=utc'] } }],
  ['the scratch disk', { ...order, scratchBytes: 2 * order.scratchBytes }],
];
test.each(changes)('another template for a change of %s', async (_what, changed) => {
  expect(on.templates.key(changed)).not.toBe(on.templates.key(order));
  await on.templates.get(order, signal);
  const later = on.restarted();
  await later.templates.removeStale([changed]);
  expect(on.memories.held.size).toBe(0);
  await later.templates.get(changed, signal);
  expect(made()).toBe(2);
  expect(await readdir(join(on.host.folder, 'state', 'templates'))).toEqual([later.templates.key(changed)]);
});

test('classes that differ in nothing else than name and pool share one', async () => {
  expect(on.templates.key({ ...order, className: 'other' })).toBe(on.templates.key(order));
});

test('another version of QEMU makes another template', () => {
  const before = on.templates.key(order);
  on.hypervisor.version = 'fake 2';
  expect(on.templates.key(order)).not.toBe(before);
});
