import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { LogPieces, parseLogLine } from './log-line.ts';

const time = '2026-11-22T10:00:00.000000001Z';

describe('a line of a log', () => {
  test.each([
    [`${time} stdout F hello`, 'stdout', 'hello\n'],
    [`${time} stderr F `, 'stderr', '\n'],
    [`${time} stdout P no end`, 'stdout', 'no end'],
    [`${time} stdout F:x:y  two spaces `, 'stdout', ' two spaces \n'],
  ])('%s', (line, stream, content) => {
    expect(parseLogLine(Buffer.from(line))).toEqual({ stream, content: Buffer.from(content) });
  });

  test.each(['', 'nonsense', `${time} stdin F x`, `${time} stdout`, `${time} stdout F`])('"%s" is none', (line) => {
    expect(parseLogLine(Buffer.from(line))).toBeUndefined();
  });
});

test('what is written comes back, however the file is cut', () => {
  const piece = fc.record({
    stream: fc.constantFrom('stdout' as const, 'stderr' as const),
    whole: fc.boolean(),
    text: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes.filter((byte) => byte !== 10))),
  });
  fc.assert(
    fc.property(fc.array(piece), fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }), (pieces, cuts) => {
      const file = Buffer.concat(
        pieces.flatMap(({ stream, whole, text }) => [
          Buffer.from(`${time} ${stream} ${whole ? 'F' : 'P'} `),
          text,
          Buffer.from('\n'),
        ]),
      );
      const reader = new LogPieces();
      const found = [];
      for (let at = 0, i = 0; at < file.length; i++) {
        const size = cuts[i % cuts.length] ?? 1;
        found.push(...reader.push(file.subarray(at, at + size)));
        at += size;
      }
      const wanted = pieces.map(({ stream, whole, text }) => ({
        stream,
        content: whole ? Buffer.concat([text, Buffer.from('\n')]) : text,
      }));
      expect(found.map(({ stream, content }) => [stream, content.toString('hex')])).toEqual(
        wanted.map(({ stream, content }) => [stream, content.toString('hex')]),
      );
    }),
  );
});
