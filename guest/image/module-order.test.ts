import { expect, test } from '@jest/globals';
import { loadOrder, moduleDependencies, moduleName } from './module-order.ts';

test('every module comes after those it needs, once', () => {
  const needs: Record<string, readonly string[]> = { a: ['b', 'c'], b: ['c'], c: [], d: ['a', 'c'] };
  expect(loadOrder(['d', 'a'], (name) => needs[name] ?? [])).toEqual(['c', 'b', 'a', 'd']);
});

test('modules that need each other are an error', () => {
  expect(() => loadOrder(['a'], (name) => [name === 'a' ? 'b' : 'a'])).toThrow('a -> b -> a');
});

test('dependencies are read from the module', () => {
  const section = (text: string): Buffer => Buffer.from(`ELF\0license=GPL\0${text}\0name=x\0`);
  expect(moduleDependencies(section('depends=virtio,t10-pi'))).toEqual(['virtio', 't10_pi']);
  expect(moduleDependencies(section('depends='))).toEqual([]);
  expect(moduleDependencies(section('vermagic=6.1'))).toEqual([]);
});

test('a module is named as the kernel names it', () => {
  expect(moduleName('./lib/modules/6.1/kernel/drivers/char/hw_random/virtio-rng.ko')).toBe('virtio_rng');
});
