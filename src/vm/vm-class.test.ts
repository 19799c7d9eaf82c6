import { expect, test } from '@jest/globals';
import { oversize, vmClassDefaults, VmClasses, type VmClass } from './vm-class.ts';

const gibibyte = 1024 ** 3;
const vmClass: VmClass = { ...vmClassDefaults, name: 'default', vcpus: 2, memoryBytes: 2 * gibibyte };

test.each([
  [{}, undefined],
  [{ vcpus: 2, memoryBytes: 2 * gibibyte }, undefined],
  [{ vcpus: 0.5 }, undefined],
  [{ vcpus: 2.5 }, { vcpus: 3, memoryBytes: 2 * gibibyte }],
  [{ memoryBytes: 3 * gibibyte }, { vcpus: 2, memoryBytes: 3.25 * gibibyte }],
  [
    { vcpus: 8, memoryBytes: 2 * gibibyte + 1 },
    { vcpus: 8, memoryBytes: 2.375 * gibibyte },
  ],
])('a pod that asks for %j', (size, expected) => {
  expect(oversize(vmClass, size)).toEqual(expected);
});

test('classes are found by name', () => {
  const classes = new VmClasses([vmClass]);
  expect(classes.get('default')).toBe(vmClass);
  expect(() => classes.get('big')).toThrow('big');
  expect(() => new VmClasses([{ ...vmClass, memoryBytes: 1000 }])).toThrow('1 MiB');
});
