import { expect, test } from '@jest/globals';
import { fullName } from './guest-link.ts';

test('names are completed, ids and what is no name refused', () => {
  expect(fullName('cafe')).toBe('docker.io/library/cafe:latest');
  expect(fullName('registry.example/app:1')).toBe('registry.example/app:1');
  expect(() => fullName(`sha256:${'a'.repeat(64)}`)).toThrow('is the id of an image, not a name');
  expect(() => fullName('a:b:c')).toThrow('a:b:c');
});
