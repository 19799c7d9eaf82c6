import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { criTypes } from './generate-cri-types.ts';

test('src/cri/gen/cri-types.ts is what the proto says', () => {
  expect(readFileSync(new URL('../src/cri/gen/cri-types.ts', import.meta.url), 'utf8')).toBe(criTypes());
});
