import { type ControlFrame, flags, spdyVersion, typeCodes } from './frames.ts';

const headLength = 8;

function flagsOf(frame: ControlFrame): number {
  const fin = 'fin' in frame && frame.fin ? flags.fin : 0;
  const unidirectional = 'unidirectional' in frame && frame.unidirectional ? flags.unidirectional : 0;
  return fin | unidirectional;
}

function words(...values: readonly number[]): Buffer {
  const buffer = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => buffer.writeUInt32BE(value, index * 4));
  return buffer;
}

function payloadOf(frame: ControlFrame): Buffer {
  switch (frame.type) {
    case 'syn-stream':
      // Associated with no stream, highest priority, no credential slot.
      return Buffer.concat([words(frame.streamId, 0), Buffer.alloc(2), frame.block]);
    case 'syn-reply':
    case 'headers':
      return Buffer.concat([words(frame.streamId), frame.block]);
    case 'rst-stream':
      return words(frame.streamId, frame.status);
    case 'settings':
      return words(frame.values.size, ...[...frame.values].flat());
    case 'ping':
      return words(frame.id);
    case 'go-away':
      return words(frame.lastStreamId, frame.status);
    case 'window-update':
      return words(frame.streamId, frame.delta);
  }
}

export function encodeControl(frame: ControlFrame): Buffer {
  const payload = payloadOf(frame);
  const head = Buffer.alloc(headLength);
  head.writeUInt16BE(0x8000 | spdyVersion);
  head.writeUInt16BE(typeCodes[frame.type], 2);
  head.writeUInt8(flagsOf(frame), 4);
  head.writeUIntBE(payload.length, 5, 3);
  return Buffer.concat([head, payload]);
}

/** What comes before `length` bytes of a stream. */
export function encodeDataHead(streamId: number, length: number, fin: boolean): Buffer {
  const head = Buffer.alloc(headLength);
  head.writeUInt32BE(streamId);
  head.writeUInt8(fin ? flags.fin : 0, 4);
  head.writeUIntBE(length, 5, 3);
  return head;
}
