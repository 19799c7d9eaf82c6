import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decodeChannelMessage, encodeChannelMessage } from './channel-codec.ts';

const data = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));

test.each(['binary', 'base64'] as const)('%s messages come out as they went in', (encoding) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: encoding === 'binary' ? 255 : 9 }), data, (channel, bytes) => {
      const encoded = encodeChannelMessage(encoding, { channel, data: bytes });
      expect(decodeChannelMessage(encoding, Buffer.from(encoded))).toEqual({ channel, data: bytes });
    }),
  );
});

test('anything can come in', () => {
  fc.assert(
    fc.property(data, (raw) => {
      for (const encoding of ['binary', 'base64'] as const) decodeChannelMessage(encoding, raw);
    }),
  );
  expect(decodeChannelMessage('binary', Buffer.alloc(0))).toBeUndefined();
  expect(decodeChannelMessage('base64', Buffer.from('1no base64'))).toBeUndefined();
});

test('base64 messages are text', () => {
  expect(encodeChannelMessage('base64', { channel: 1, data: Buffer.from('hello') })).toBe('1aGVsbG8=');
});
