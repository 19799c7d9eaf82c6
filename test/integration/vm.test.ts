import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';
import type { GuestAgent } from '../../src/agent/guest-agent.ts';
import { identify, isAlive, type ProcessIdentity } from '../../src/platform/processes.ts';
import { imageSlotCount } from '../../src/vm/qemu/devices/image-slots.ts';
import type { PodVm } from '../../src/vm/pod-vm.ts';
import { untraced } from '../../src/vm/step-trace.ts';
import { clearState } from '../harness/clear-state.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { jailer, openVmRig, smallClass, type VmRig } from '../harness/vm-rig.ts';

const request = { className: 'small' };
const soon = (): AbortSignal => AbortSignal.timeout(60_000);
const folders: string[] = [];

async function rig(options: Partial<Parameters<typeof openVmRig>[0]> = {}): Promise<VmRig> {
  const folder = options.folder ?? (await freeFolder('vm'));
  if (options.folder === undefined) folders.push(folder);
  return openVmRig({ ...options, folder });
}

afterAll(async () => {
  for (const folder of folders) {
    await clearState(join(folder, 's'));
    await removeFolder(folder);
  }
});

/** What the host has of a VM: all gone after destroy. */
async function remains(
  on: VmRig,
  vm: { readonly id: string; readonly pid: number; readonly netns: string },
): Promise<string[]> {
  const there = async (path: string): Promise<boolean> =>
    stat(path).then(
      () => true,
      () => false,
    );
  const found: string[] = [];
  for (const path of [vm.netns, join(on.state, 'vms', vm.id), join(on.root, 'vms', vm.id)])
    if (await there(path)) found.push(path);
  if (await identify(vm.pid)) found.push(`process ${String(vm.pid)}`);
  const { stdout } = await execa('find', ['/sys/fs/cgroup', '-maxdepth', '4', '-name', vm.id], { reject: false });
  return [...found, ...stdout.split('\n').filter((line) => line !== '')];
}

async function templateRecord(on: VmRig): Promise<{ key: string; holder: ProcessIdentity }> {
  const [key] = await readdir(join(on.state, 'templates'));
  expect(key).toBeDefined();
  return JSON.parse(await readFile(join(on.state, 'templates', key!, 'template.json'), 'utf8')) as {
    key: string;
    holder: ProcessIdentity;
  };
}

describe('a vm that is booted', () => {
  let on: VmRig;
  let vm: PodVm<GuestAgent>;

  beforeAll(async () => {
    on = await rig({ classes: [{ ...smallClass, template: false }] });
    vm = await on.provider.claim(request, untraced, soon());
  });

  afterAll(async () => {
    await vm.destroy();
  });

  test('is cold, answers, and runs the image’s kernel', async () => {
    expect(vm.origin).toBe('cold');
    expect((await vm.agent.hello()).kernelRelease).toBe(on.guestImage.kernelRelease);
  });

  test('runs as a user of its own in cgroups of its own', async () => {
    const status = await readFile(`/proc/${String(vm.pid)}/status`, 'utf8');
    expect(Number(/^Uid:\s+(\d+)/m.exec(status)?.[1])).toBeGreaterThanOrEqual(1_879_048_192);
    expect(await readFile(`/proc/${String(vm.pid)}/cgroup`, 'utf8')).toContain(`/kelyfos/${vm.id}`);
  });

  test('runs a container from an image in a slot', async () => {
    await on.guest.rehearse(vm, soon());
  });

  test('takes more images than it has slots', async () => {
    const serials: string[] = [];
    for (let count = 0; count < imageSlotCount; count++) serials.push(await vm.attachDisk(on.image, soon()));
    expect(serials).toEqual(Array.from({ length: imageSlotCount }, (_, slot) => `slot${String(slot)}`));
    // All slots are taken: this one runs its container from a hot-added disk.
    await on.guest.rehearse(vm, soon());
    await expect(vm.attachDisk(on.image, soon())).resolves.toBe('disk-1');
    for (const serial of [...serials, 'disk-1']) await vm.detachDisk(serial);
    expect(await readdir(join(on.root, 'vms', vm.id))).toEqual(['scratch.img']);
    await on.guest.rehearse(vm, soon());
  });

  test('leaves nothing when it is destroyed, twice', async () => {
    await vm.destroy();
    await vm.destroy();
    expect(await remains(on, vm)).toEqual([]);
  });
});

test('a killed qemu is told with its reason, and still leaves nothing', async () => {
  const on = await rig({ classes: [{ ...smallClass, template: false }] });
  const vm = await on.provider.claim(request, untraced, soon());
  process.kill(vm.pid, 'SIGKILL');
  expect((await vm.exited).reason).toMatch(/by SIGKILL.*console:.*kelyfos-agent/);
  await vm.destroy();
  expect(await remains(on, vm)).toEqual([]);
});

describe('clones', () => {
  let on: VmRig;
  let clones: PodVm<GuestAgent>[];

  beforeAll(async () => {
    on = await rig();
    clones = [];
    // The template is frozen without a connection: each clone answers after a reset-line handshake of its own.
    for (let count = 0; count < 3; count++) clones.push(await on.provider.claim(request, untraced, soon()));
  });

  afterAll(async () => {
    await Promise.all(clones.map((vm) => vm.destroy()));
  });

  test('come from one template, whose own vm is gone', async () => {
    expect(clones.map((vm) => vm.origin)).toEqual(['clone', 'clone', 'clone']);
    expect(await readdir(join(on.state, 'templates'))).toHaveLength(1);
    expect(await readdir(join(on.state, 'vms'))).toHaveLength(3);
  });

  test('do not share random numbers', async () => {
    const randoms = await Promise.all(
      clones.map(async (vm) => Buffer.from((await vm.agent.hello()).random).toString('hex')),
    );
    expect(new Set(randoms).size).toBe(3);
  });

  test('run a container each, with a scratch disk of their own', async () => {
    await Promise.all(clones.map((vm) => on.guest.rehearse(vm, soon())));
  });

  test('cannot write to the template from the jail, not even by its descriptor', async () => {
    const { holder } = await templateRecord(on);
    const [clone] = clones;
    const uid = /^Uid:\s+(\d+)/m.exec(await readFile(`/proc/${String(clone!.pid)}/status`, 'utf8'))?.[1] ?? '';
    const state = join(on.state, 'templates', (await templateRecord(on)).key, 'state');
    const inJail = (program: readonly string[]) =>
      execa(
        jailer,
        [
          ...['run', '--uid', uid, '--gid', uid, '--netns', clone!.netns, '--file-capabilities'],
          ...['--memory', `/proc/${String(holder.pid)}/fd/3`, '--state-file', state, '--', ...program],
        ],
        { reject: false },
      );
    const before = await readFile(state);
    const memory = await inJail([
      '/usr/bin/dd',
      'if=/dev/zero',
      'of=/proc/self/fd/11',
      'bs=4096',
      'count=1',
      'conv=notrunc',
    ]);
    expect(memory.stderr).toMatch(/Operation not permitted/);
    const punched = await inJail(['/usr/bin/fallocate', '--punch-hole', '--length', '4096', '/proc/self/fd/11']);
    expect(punched.stderr).toMatch(/Operation not permitted/);
    const device = await inJail([
      '/usr/bin/dd',
      'if=/dev/zero',
      'of=/proc/self/fd/12',
      'bs=4096',
      'count=1',
      'conv=notrunc',
    ]);
    expect(device.stderr).toMatch(/Read-only file system|Permission denied/);
    expect(Buffer.compare(await readFile(state), before)).toBe(0);
  });

  test('outlive their template', async () => {
    const later = await rig({
      folder: join(on.state, '..'),
      classes: [{ ...smallClass, memoryBytes: 384 * 1024 ** 2 }],
    });
    const { key, holder } = await templateRecord(on);
    await later.provider.start();
    expect(await isAlive(holder)).toBe(false);
    const vm = await later.provider.claim(request, untraced, soon());
    expect(vm.origin).toBe('clone');
    expect((await templateRecord(later)).key).not.toBe(key);
    await vm.destroy();
    await Promise.all(clones.map((clone) => on.guest.rehearse(clone, soon())));
  });
});

describe('a daemon that is killed', () => {
  test('leaves a clone that the next one adopts, and a template that it uses', async () => {
    const folder = await freeFolder('vm');
    folders.push(folder);
    const { stdout: id } = await execa(process.execPath, ['test/fixtures/claim-and-exit.ts', folder, 'clone'], {
      reject: false,
      timeout: 90_000,
    });
    const on = await rig({ folder });
    const before = await templateRecord(on);
    expect(await isAlive(before.holder)).toBe(true);
    const vm = await on.provider.adopt(id);
    expect(vm?.id).toBe(id);
    expect(await on.provider.sweep(new Set([id]))).toEqual([]);
    await on.guest.rehearse(vm!, soon());
    // The slot that the first daemon filled is known.
    expect(await vm!.attachDisk(on.image, soon())).toBe('slot1');
    await vm!.detachDisk('slot0');
    const another = await on.provider.claim(request, untraced, soon());
    expect(another.origin).toBe('clone');
    expect((await templateRecord(on)).holder).toEqual(before.holder);
    await another.destroy();
    process.kill(vm!.pid, 'SIGKILL');
    expect((await vm!.exited).reason).toContain('qemu ended');
    await vm!.destroy();
    expect(await remains(on, vm!)).toEqual([]);
  });

  test('leaves a vm that the next one sweeps when nobody owns it', async () => {
    const folder = await freeFolder('vm');
    folders.push(folder);
    const { stdout: id } = await execa(process.execPath, ['test/fixtures/claim-and-exit.ts', folder, 'cold'], {
      reject: false,
      timeout: 90_000,
    });
    const on = await rig({ folder });
    const record = JSON.parse(await readFile(join(on.state, 'vms', id, 'vm.json'), 'utf8')) as {
      process: ProcessIdentity;
      netns: string;
    };
    expect(await on.provider.sweep(new Set())).toEqual([id]);
    expect(await remains(on, { id, pid: record.process.pid, netns: record.netns })).toEqual([]);
    expect(await on.provider.adopt(id)).toBeUndefined();
  });
});

describe('the pool', () => {
  test('hands out rehearsed clones that were paused with their connection open, and refills', async () => {
    const on = await rig({ classes: [{ ...smallClass, poolSize: 2, rehearse: true }] });
    const filled = async (): Promise<void> => {
      while (on.provider.pools().some(({ idle, size }) => idle < size)) await delay(50);
    };
    await on.provider.start();
    await filled();
    const idle = await readdir(join(on.state, 'vms'));
    const burst = await Promise.all([1, 2, 3].map(() => on.provider.claim(request, untraced, soon())));
    expect(burst.map((vm) => vm.origin).sort()).toEqual(['clone', 'pool', 'pool']);
    expect(burst.filter((vm) => vm.origin === 'pool').every((vm) => idle.includes(vm.id))).toBe(true);
    await Promise.all(burst.map((vm) => vm.agent.hello(soon())));
    await filled();
    // One that dies while it waits is replaced.
    const [waiting] = (await readdir(join(on.state, 'vms'))).filter((id) => !burst.some((vm) => vm.id === id));
    const record = JSON.parse(await readFile(join(on.state, 'vms', waiting!, 'vm.json'), 'utf8')) as {
      process: ProcessIdentity;
    };
    process.kill(record.process.pid, 'SIGKILL');
    while (await isAlive(record.process)) await delay(20);
    await delay(100);
    await filled();
    await Promise.all(burst.map((vm) => vm.destroy()));
    await on.close();
    expect(await readdir(join(on.state, 'vms'))).toEqual([]);
    expect(await readdir(join(on.root, 'vms'))).toEqual([]);
  });
});

test('a pod bigger than its class gets a vm of its own size', async () => {
  const on = await rig();
  const vm = await on.provider.claim({ ...request, vcpus: 2, memoryBytes: 1024 ** 3 }, untraced, soon());
  expect(vm.origin).toBe('cold');
  const args = (await readFile(`/proc/${String(vm.pid)}/cmdline`, 'utf8')).split('\0');
  expect(args[args.indexOf('-m') + 1]).toBe('1280M');
  expect(args[args.indexOf('-smp') + 1]).toBe('2');
  await vm.destroy();
});

test('the accelerator is found by booting, within seconds, and remembered', async () => {
  const startedAt = performance.now();
  const on = await rig({ accelerator: 'auto' });
  expect(performance.now() - startedAt).toBeLessThan(10_000);
  const file = join(on.root, 'accelerator.json');
  const verdict = JSON.parse(await readFile(file, 'utf8')) as { accelerator: string };
  expect(on.accelerator).toBe(verdict.accelerator);
  expect(await readdir(join(on.state, 'vms'))).toEqual([]);
  // What is remembered is believed: a verdict that no probe would give.
  const forged = verdict.accelerator === 'kvm' ? 'tcg' : 'kvm';
  await writeFile(file, JSON.stringify({ ...verdict, accelerator: forged }));
  expect((await rig({ folder: join(on.state, '..'), accelerator: 'auto' })).accelerator).toBe(forged);
});

test('a state folder that is too long for sockets is refused before anything is made', async () => {
  const folder = join(await freeFolder('vm'), 'x'.repeat(90));
  folders.push(join(folder, '..'));
  const on = await rig({ folder, classes: [{ ...smallClass, template: false }] });
  await expect(on.provider.claim(request, untraced, soon())).rejects.toThrow('too long');
  await clearState(on.state);
});
