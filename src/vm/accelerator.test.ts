import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { silentLog } from '../platform/log.ts';
import { chooseAccelerator, type ProbeInputs } from './accelerator.ts';

let folder: string;
let probes: number;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-accelerator-'));
  probes = 0;
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

function inputs(failure: string | undefined, over: Partial<ProbeInputs> = {}): ProbeInputs {
  return {
    setting: 'auto',
    file: join(folder, 'accelerator.json'),
    key: { bootId: 'b', qemu: '7.2', guest: 'g' },
    hasKvm: async () => true,
    bootUnderKvm: async () => {
      probes++;
      return failure;
    },
    log: silentLog(),
    ...over,
  };
}

test('what is configured is not doubted', async () => {
  expect(await chooseAccelerator(inputs('hangs', { setting: 'kvm' }))).toBe('kvm');
  expect(await chooseAccelerator(inputs(undefined, { setting: 'tcg' }))).toBe('tcg');
  expect(probes).toBe(0);
});

test('a guest that boots decides for kvm, and the verdict is remembered', async () => {
  expect(await chooseAccelerator(inputs(undefined))).toBe('kvm');
  expect(await chooseAccelerator(inputs('would hang now'))).toBe('kvm');
  expect(probes).toBe(1);
});

test('a guest that does not boot decides for emulation, with the reason', async () => {
  expect(await chooseAccelerator(inputs('it spins'))).toBe('tcg');
  expect(JSON.parse(await readFile(join(folder, 'accelerator.json'), 'utf8'))).toMatchObject({
    accelerator: 'tcg',
    reason: 'the guest kernel does not boot under kvm: it spins',
  });
});

test.each(['bootId', 'qemu', 'guest'] as const)('another %s is tried anew', async (part) => {
  await chooseAccelerator(inputs('it spins'));
  const key = { bootId: 'b', qemu: '7.2', guest: 'g', [part]: 'other' };
  expect(await chooseAccelerator(inputs(undefined, { key }))).toBe('kvm');
  expect(probes).toBe(2);
});

test('a host without the device is not probed', async () => {
  expect(await chooseAccelerator(inputs(undefined, { hasKvm: async () => false }))).toBe('tcg');
  expect(probes).toBe(0);
});

test('a probe that could not be made leaves no verdict', async () => {
  const broken = inputs(undefined, { bootUnderKvm: () => Promise.reject(new Error('no disk space')) });
  await expect(chooseAccelerator(broken)).rejects.toThrow('no disk space');
  expect(await chooseAccelerator(inputs(undefined))).toBe('kvm');
});

test('a damaged verdict is made again', async () => {
  await writeFile(join(folder, 'accelerator.json'), '{"version": 7}');
  expect(await chooseAccelerator(inputs(undefined))).toBe('kvm');
  expect(probes).toBe(1);
});
