import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { formatTime, LogEncoder, maxLineBytes, nothingPending, type LogChannel } from './log-encoder.ts';

const at = 1_700_000_000_123_456_789n;
const stamp = '2023-11-14T22:13:20.123456789Z';

function encode(...chunks: readonly string[]): string {
  const encoder = new LogEncoder(nothingPending);
  const out = chunks.map((chunk) => encoder.encode('stdout', at, Buffer.from(chunk)));
  return Buffer.concat([...out, encoder.end(at)]).toString();
}

describe('log encoder', () => {
  test('formats nanoseconds', () => {
    expect(formatTime(at)).toBe(stamp);
    expect(formatTime(0n)).toBe('1970-01-01T00:00:00.000000000Z');
  });

  test('joins a line that arrives in pieces', () => {
    expect(encode('hel', 'lo\nwor', 'ld\n')).toBe(`${stamp} stdout F hello\n${stamp} stdout F world\n`);
  });

  test('keeps empty lines and drops a carriage return before the newline only', () => {
    expect(encode('\n\r\na\rb\r\n')).toBe(`${stamp} stdout F \n${stamp} stdout F \n${stamp} stdout F a\rb\n`);
  });

  test('tags a last piece without newline P', () => {
    expect(encode('no end')).toBe(`${stamp} stdout P no end\n`);
  });

  test('splits a line over the limit, and not one of just the limit', () => {
    const exact = 'x'.repeat(maxLineBytes);
    expect(encode(`${exact}\n`)).toBe(`${stamp} stdout F ${exact}\n`);
    expect(encode(`${exact}yz\n`)).toBe(`${stamp} stdout P ${exact}\n${stamp} stdout F yz\n`);
  });

  test('does not mix the lines of two channels', () => {
    const encoder = new LogEncoder(nothingPending);
    encoder.encode('stdout', at, Buffer.from('out'));
    const lines = encoder.encode('stderr', at, Buffer.from('err\n')).toString();
    expect(lines).toBe(`${stamp} stderr F err\n`);
    expect(encoder.encode('stdout', at, Buffer.from('!\n')).toString()).toBe(`${stamp} stdout F out!\n`);
  });

  test('gives every byte back once and in order, however it was cut', () => {
    const record = fc.record({
      channel: fc.constantFrom<LogChannel>('stdout', 'stderr'),
      data: fc
        .uint8Array({ minLength: 1, maxLength: 300 })
        .map((bytes) => bytes.map((byte) => (byte === 13 ? 10 : byte))),
    });
    fc.assert(
      fc.property(fc.array(record, { maxLength: 60 }), (records) => {
        const encoder = new LogEncoder(nothingPending);
        const encoded = records.map(({ channel, data }) => encoder.encode(channel, at, data));
        const log = Buffer.concat([...encoded, encoder.end(at)]);
        for (const channel of ['stdout', 'stderr'] as const) {
          const sent = Buffer.concat(records.filter((entry) => entry.channel === channel).map(({ data }) => data));
          expect(contentOf(log, channel).equals(sent)).toBe(true);
        }
      }),
    );
  });

  test('goes on from what was pending as if nothing had happened', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '\n'), minLength: 1, maxLength: 20 })),
        fc.nat(30),
        (chunks, cut) => {
          const whole = new LogEncoder(nothingPending);
          let resumed = new LogEncoder(nothingPending);
          const [expected, actual] = [[] as Buffer[], [] as Buffer[]];
          for (const [index, chunk] of chunks.entries()) {
            if (index === cut) resumed = new LogEncoder(resumed.pending);
            expected.push(whole.encode('stdout', at, Buffer.from(chunk)));
            actual.push(resumed.encode('stdout', at, Buffer.from(chunk)));
          }
          expect(Buffer.concat(actual).equals(Buffer.concat(expected))).toBe(true);
        },
      ),
    );
  });
});

function contentOf(log: Buffer, channel: LogChannel): Buffer {
  const parts: Buffer[] = [];
  const head = Buffer.from(`${stamp} ${channel} `);
  for (let from = 0; from < log.length;) {
    const end = log.indexOf(10, from);
    const line = log.subarray(from, end);
    if (line.subarray(0, head.length).equals(head)) {
      parts.push(line.subarray(head.length + 2));
      if (line[head.length] === 'F'.charCodeAt(0)) parts.push(Buffer.from('\n'));
    }
    from = end + 1;
  }
  return Buffer.concat(parts);
}
