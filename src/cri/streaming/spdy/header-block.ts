import { SpdyProtocolError } from './frames.ts';

/**
 * Names (lower case) and values of a header block before compression: a count, then each name and
 * value with its length before it, all numbers of four bytes. Several values of one name are joined
 * by a zero byte.
 * https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/#TOC-2.6.10-Name-Value-Header-Block
 */
export type HeaderMap = ReadonlyMap<string, string>;

export function encodeHeaders(headers: HeaderMap): Buffer {
  const parts: Buffer[] = [];
  const number = (value: number): void => {
    const buffer = Buffer.alloc(4);
    buffer.writeUInt32BE(value);
    parts.push(buffer);
  };
  number(headers.size);
  for (const text of [...headers].flat()) {
    const bytes = Buffer.from(text, 'latin1');
    number(bytes.length);
    parts.push(bytes);
  }
  return Buffer.concat(parts);
}

export function decodeHeaders(block: Buffer): HeaderMap {
  const headers = new Map<string, string>();
  let offset = 0;
  const number = (): number => {
    if (offset + 4 > block.length) throw new SpdyProtocolError('a header block that ends too early');
    offset += 4;
    return block.readUInt32BE(offset - 4);
  };
  const text = (): string => {
    const end = number() + offset;
    if (end > block.length) throw new SpdyProtocolError('a header block that ends too early');
    const value = block.toString('latin1', offset, end);
    offset = end;
    return value;
  };
  for (let left = number(); left > 0; left -= 1) {
    const name = text().toLowerCase();
    if (headers.has(name)) throw new SpdyProtocolError(`two headers ${JSON.stringify(name)}`);
    headers.set(name, text());
  }
  return headers;
}
