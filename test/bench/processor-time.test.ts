import { expect, test } from '@jest/globals';
import { parseProcessorSeconds } from './processor-time.ts';

test('user and system time count, whatever the program is called', () => {
  const stat = '4711 (qemu) 1 (x) S 1 4711 4711 0 -1 4194560 9000 0 12 0 150 25 7 8 20 0 4 0 12345 2500000000 30000';
  expect(parseProcessorSeconds(stat)).toBe(1.75);
});

test('a text without times is an error', () => {
  expect(() => parseProcessorSeconds('4711 (qemu) S 1')).toThrow('no times');
});
