import { expect, test } from '@jest/globals';
import { mkfsArguments } from './scratch-disk.ts';

const inodes = (bytes: number): number => Number(mkfsArguments('x', bytes).at(-2));

test.each([
  [64 * 1024 ** 2, 1_024],
  [10 * 1024 ** 3, 163_840],
  [1024 ** 3, 16_384],
  [1024 ** 4, 16_777_216],
])('a disk of %d bytes has %d inodes', (bytes, expected) => {
  expect(inodes(bytes)).toBe(expected);
});
