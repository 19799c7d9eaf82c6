/**
 * Messages of the channel.k8s.io protocols: the number of a channel, then bytes of it. As a binary
 * message the number is one byte; in the base64 twins it is one digit, and the bytes are base64.
 * https://pkg.go.dev/k8s.io/streaming/pkg/httpstream/wsstream
 */
export type ChannelEncoding = 'binary' | 'base64';

export interface ChannelMessage {
  readonly channel: number;
  readonly data: Buffer;
}

const digitZero = 0x30;

export function encodeChannelMessage(encoding: ChannelEncoding, { channel, data }: ChannelMessage): Buffer | string {
  if (encoding === 'binary') return Buffer.concat([Buffer.of(channel), data]);
  return String.fromCharCode(digitZero + channel) + data.toString('base64');
}

/** Undefined when it is no message of such a protocol. */
export function decodeChannelMessage(encoding: ChannelEncoding, raw: Buffer): ChannelMessage | undefined {
  const [first] = raw;
  if (first === undefined) return undefined;
  if (encoding === 'binary') return { channel: first, data: raw.subarray(1) };
  const text = raw.toString('latin1', 1);
  if (first < digitZero || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  return { channel: first - digitZero, data: Buffer.from(text, 'base64') };
}
