import { expect, test } from '@jest/globals';
import { parseCpuTimes } from './host.ts';

test('waiting for a disk is idle time', () => {
  expect(parseCpuTimes('cpu  10 1 9 70 5 2 3 0 4 0\ncpu0 1 1 1 1\n')).toEqual({ idle: 75, total: 100 });
});
