import { type ControlFrame, flags, type Frame, spdyVersion, SpdyProtocolError, typeCodes } from './frames.ts';

const headLength = 8;
/** Kubernetes sends header blocks of a hundred bytes; what is longer is no client of ours. */
const maxControlPayload = 64 * 1024;
/** A smaller piece is copied, lest it keep the whole chunk it came in. */
const copyBelow = 4096;

const fixedLengths: Partial<Record<ControlFrame['type'], number>> = {
  'rst-stream': 8,
  ping: 4,
  'go-away': 8,
  'window-update': 8,
};
const leastLengths: Partial<Record<ControlFrame['type'], number>> = {
  'syn-stream': 10,
  'syn-reply': 4,
  headers: 4,
  settings: 4,
};

const types = new Map<number, ControlFrame['type']>(
  Object.entries(typeCodes).map(([type, code]) => [code, type as ControlFrame['type']]),
);

type State =
  | { readonly expects: 'head' }
  | { readonly expects: 'data'; readonly streamId: number; readonly fin: boolean; readonly left: number }
  /** Type undefined: a type that this end does not know, to be skipped. */
  | {
      readonly expects: 'control';
      readonly type: ControlFrame['type'] | undefined;
      readonly flags: number;
      readonly length: number;
    };

/** An id without the bit above it, which is reserved. */
function id(payload: Buffer, offset: number): number {
  return payload.readUInt32BE(offset) & 0x7fff_ffff;
}

function settingsOf(payload: Buffer): ReadonlyMap<number, number> {
  const count = payload.readUInt32BE(0);
  if (count !== (payload.length - 4) / 8) throw new SpdyProtocolError(`SETTINGS with ${String(count)} entries`);
  const values = new Map<number, number>();
  for (let offset = 4; offset < payload.length; offset += 8) {
    values.set(payload.readUIntBE(offset + 1, 3), payload.readUInt32BE(offset + 4));
  }
  return values;
}

function controlFrame(type: ControlFrame['type'], flagBits: number, payload: Buffer): ControlFrame {
  const fixed = fixedLengths[type] ?? payload.length;
  if (payload.length !== fixed || payload.length < (leastLengths[type] ?? 0)) {
    throw new SpdyProtocolError(`a frame ${type} of ${String(payload.length)} bytes`);
  }
  const fin = (flagBits & flags.fin) !== 0;
  switch (type) {
    case 'syn-stream':
      return {
        type,
        streamId: id(payload, 0),
        fin,
        unidirectional: (flagBits & flags.unidirectional) !== 0,
        block: payload.subarray(10),
      };
    case 'syn-reply':
    case 'headers':
      return { type, streamId: id(payload, 0), fin, block: payload.subarray(4) };
    case 'rst-stream':
      return { type, streamId: id(payload, 0), status: payload.readUInt32BE(4) };
    case 'settings':
      return { type, values: settingsOf(payload) };
    case 'ping':
      return { type, id: payload.readUInt32BE(0) };
    case 'go-away':
      return { type, lastStreamId: id(payload, 0), status: payload.readUInt32BE(4) };
    case 'window-update':
      return { type, streamId: id(payload, 0), delta: id(payload, 4) };
  }
}

/**
 * Cuts a byte stream into frames. Data is handed on as it comes, so that a frame of 16 MiB needs no
 * 16 MiB: a data frame may come out in several pieces, the last one with its `fin`. Throws
 * SpdyProtocolError, after which it is of no use.
 */
export class FrameDecoder {
  #state: State = { expects: 'head' };
  /** The beginning of a head or of a control frame's payload. */
  #kept: Buffer = Buffer.alloc(0);

  *push(chunk: Buffer): Generator<Frame, void, undefined> {
    let rest = chunk;
    for (;;) {
      const state = this.#state;
      if (state.expects === 'data') {
        if (rest.length === 0) return;
        const piece = rest.subarray(0, state.left);
        rest = rest.subarray(piece.length);
        yield this.#piece(state, piece);
        continue;
      }
      const length = state.expects === 'head' ? headLength : state.length;
      const missing = length - this.#kept.length;
      const taken = rest.subarray(0, missing);
      rest = rest.subarray(taken.length);
      this.#kept = Buffer.concat([this.#kept, taken]);
      if (this.#kept.length < length) return;
      const whole = this.#kept;
      this.#kept = Buffer.alloc(0);
      if (state.expects === 'head') {
        const frame = this.#head(whole);
        if (frame !== undefined) yield frame;
      } else {
        this.#state = { expects: 'head' };
        if (state.type !== undefined) yield controlFrame(state.type, state.flags, whole);
      }
    }
  }

  #piece(state: State & { readonly expects: 'data' }, piece: Buffer): Frame {
    const left = state.left - piece.length;
    this.#state = left === 0 ? { expects: 'head' } : { ...state, left };
    const data = piece.length < copyBelow ? Buffer.from(piece) : piece;
    return { type: 'data', streamId: state.streamId, fin: state.fin && left === 0, data };
  }

  /** Decides what comes next; a data frame without data is whole already. */
  #head(head: Buffer): Frame | undefined {
    const flagBits = head.readUInt8(4);
    const length = head.readUIntBE(5, 3);
    if ((head.readUInt8(0) & 0x80) === 0) {
      const streamId = id(head, 0);
      const fin = (flagBits & flags.fin) !== 0;
      if (length === 0) return { type: 'data', streamId, fin, data: Buffer.alloc(0) };
      this.#state = { expects: 'data', streamId, fin, left: length };
      return undefined;
    }
    const version = head.readUInt16BE(0) & 0x7fff;
    if (version !== spdyVersion) throw new SpdyProtocolError(`a frame of SPDY version ${String(version)}`);
    if (length > maxControlPayload) throw new SpdyProtocolError(`a control frame of ${String(length)} bytes`);
    this.#state = { expects: 'control', type: types.get(head.readUInt16BE(2)), flags: flagBits, length };
    return undefined;
  }
}
