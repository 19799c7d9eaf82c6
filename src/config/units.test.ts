import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseDuration, parseSize } from './units.ts';

describe('sizes', () => {
  test.each([
    ['0B', 0],
    ['2GiB', 2 * 1024 ** 3],
    ['1.5 KiB', 1536],
    ['1MB', 1_000_000],
    ['1TiB', 1024 ** 4],
  ])('%s', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each(['', '2', '2gib', '2 GIB', '-1GiB', '1e3B', '1.0000B', '9999999TiB', 'GiB', ' 1GiB', '1GiB '])(
    'not "%s"',
    (text) => {
      expect(parseSize(text)).toBeUndefined();
    },
  );

  test('whole mebibytes are exact', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 }), (n) => {
        expect(parseSize(`${String(n)}MiB`)).toBe(n * 1024 * 1024);
      }),
    );
  });
});

describe('durations', () => {
  test.each([
    ['500ms', 500],
    ['1.5s', 1500],
    ['10m', 600_000],
    ['1h', 3_600_000],
  ])('%s', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  test.each(['', '5', '5 sec', '-1s', '1d'])('not "%s"', (text) => {
    expect(parseDuration(text)).toBeUndefined();
  });
});
