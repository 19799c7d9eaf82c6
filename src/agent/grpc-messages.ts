import { Code, ConnectError } from '@connectrpc/connect';

/** Before each message: a byte that says whether it is compressed, and its length (PROTOCOL-HTTP2.md of gRPC). */
const prefixBytes = 5;

export function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(prefixBytes + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, prefixBytes);
  return frame;
}

/** Puts messages together from whatever pieces they come in. */
export class MessageReader {
  readonly #maxBytes: number;
  #pieces: Buffer[] = [];
  #held = 0;
  #needed = prefixBytes;

  /** `maxBytes`: of one message. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The messages that are whole with this piece. They may be views of it. */
  push(piece: Buffer): readonly Buffer[] {
    this.#pieces.push(piece);
    this.#held += piece.length;
    if (this.#held < this.#needed) return [];
    const messages: Buffer[] = [];
    let rest = this.#pieces.length === 1 ? piece : Buffer.concat(this.#pieces);
    for (;;) {
      this.#needed = rest.length < prefixBytes ? prefixBytes : this.#frameBytes(rest);
      if (rest.length < this.#needed) break;
      messages.push(rest.subarray(prefixBytes, this.#needed));
      rest = rest.subarray(this.#needed);
    }
    this.#pieces = rest.length === 0 ? [] : [rest];
    this.#held = rest.length;
    return messages;
  }

  #frameBytes(rest: Buffer): number {
    if (rest[0] !== 0) throw new ConnectError('a message is compressed, which was not agreed on', Code.Internal);
    const bytes = rest.readUInt32BE(1);
    if (bytes > this.#maxBytes) {
      const limit = `more than the ${String(this.#maxBytes)} that are taken`;
      throw new ConnectError(`a message of ${String(bytes)} bytes, ${limit}`, Code.ResourceExhausted);
    }
    return prefixBytes + bytes;
  }
}
