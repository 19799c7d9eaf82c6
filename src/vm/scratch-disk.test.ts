import { expect, test } from '@jest/globals';
import { mkfsArguments } from './scratch-disk.ts';

const inodes = (bytes: number): number => Number(mkfsArguments('x', bytes).at(-2));

test.each([
  [64 * 1024 ** 2, 4_096],
  [10 * 1024 ** 3, 163_840],
  [1024 ** 3, 65_536],
  [1024 ** 4, 1_048_576],
])('a disk of %d bytes has %d inodes', (bytes, expected) => {
  expect(inodes(bytes)).toBe(expected);
});
