import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { type QemuConfig, qemuArguments } from './argv.ts';
import { option } from './devices/argument.ts';

const goldenFolder = join(dirname(fileURLToPath(import.meta.url)), 'golden');
const gibibyte = 1024 ** 3;

const base: QemuConfig = {
  mode: 'cold',
  accelerator: 'tcg',
  vcpus: 1,
  memoryBytes: 2 * gibibyte,
  translationBytes: 64 * 1024 ** 2,
  slotBytes: 20 * gibibyte,
  extraArguments: [],
};

/** One option with its value on each line. */
function readable(args: readonly string[]): string {
  return `${args.join('\n').replaceAll(/\n(?!-)/g, ' ')}\n`;
}

const cases: readonly (readonly [string, QemuConfig])[] = [
  ['cold-tcg', base],
  ['cold-kvm', { ...base, accelerator: 'kvm', vcpus: 4 }],
  ['template-tcg', { ...base, mode: 'template' }],
  ['clone-tcg', { ...base, mode: 'clone' }],
  ['template-kvm', { ...base, mode: 'template', accelerator: 'kvm' }],
  ['clone-kvm', { ...base, mode: 'clone', accelerator: 'kvm' }],
  ['extra', { ...base, extraArguments: ['-device', 'virtio-gpu-pci'] }],
];

// Reviewed as a whole when it changes: UPDATE_GOLDEN=1 writes the files anew.
test.each(cases)('arguments: %s', async (name, config) => {
  const path = join(goldenFolder, `${name}.txt`);
  const actual = readable(qemuArguments(config));
  if (process.env['UPDATE_GOLDEN'] === '1') {
    await mkdir(goldenFolder, { recursive: true });
    await writeFile(path, actual);
  }
  expect(actual).toBe(await readFile(path, 'utf8'));
});

test('a clone differs from its template only in sharing and in waiting for the state', () => {
  const template = qemuArguments({ ...base, mode: 'template' });
  const clone = qemuArguments({ ...base, mode: 'clone' });
  expect(clone.slice(-2)).toEqual(['-incoming', 'defer']);
  const differing = clone.slice(0, -2).filter((argument, index) => argument !== template[index]);
  expect(differing).toEqual(['memory-backend-file,id=ram,size=2147483648,mem-path=/proc/self/fd/11,share=off']);
});

test.each([
  [{ vcpus: 0 }, 'vcpus'],
  [{ vcpus: 1.5 }, 'vcpus'],
  [{ memoryBytes: 1024 }, 'memory'],
  [{ memoryBytes: 100 * 1024 ** 2 + 1 }, 'memory'],
  [{ memoryBytes: Number.NaN }, 'memory'],
  [{ translationBytes: 0 }, 'translation buffer'],
  [{ translationBytes: 1.5 * 1024 ** 2 }, 'translation buffer'],
])('refuses %j', (wrong, what) => {
  expect(() => qemuArguments({ ...base, ...wrong })).toThrow(what);
});

test('a comma in a value does not begin another property', () => {
  expect(option('file', { path: '/a,b=c', on: true, off: false, none: undefined })).toBe(
    'file,path=/a,,b=c,on=on,off=off',
  );
  expect(() => option('file', { path: 'a\nb' })).toThrow('control character');
});
