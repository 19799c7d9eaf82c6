/**
 * The frames of SPDY/3.1.
 * https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/#TOC-2.2-Framing
 *
 *   data     0|stream id (31 bits)   flags (8)|length (24)   data
 *   control  1|version (15)|type (16)   flags (8)|length (24)   fields by type
 */

/** A header block as it is on the wire: compressed, in the state its connection has reached. */
interface WithBlock {
  readonly streamId: number;
  /** The sender's half of the stream ends with this frame. */
  readonly fin: boolean;
  readonly block: Buffer;
}

export interface DataFrame {
  readonly type: 'data';
  readonly streamId: number;
  readonly fin: boolean;
  readonly data: Buffer;
}

export type ControlFrame =
  | ({ readonly type: 'syn-stream'; readonly unidirectional: boolean } & WithBlock)
  | ({ readonly type: 'syn-reply' } & WithBlock)
  | ({ readonly type: 'headers' } & WithBlock)
  | { readonly type: 'rst-stream'; readonly streamId: number; readonly status: number }
  | { readonly type: 'settings'; readonly values: ReadonlyMap<number, number> }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'go-away'; readonly lastStreamId: number; readonly status: number }
  /** Stream 0 stands for the whole connection. */
  | { readonly type: 'window-update'; readonly streamId: number; readonly delta: number };

export type Frame = DataFrame | ControlFrame;

export const spdyVersion = 3;

export const typeCodes = {
  'syn-stream': 1,
  'syn-reply': 2,
  'rst-stream': 3,
  settings: 4,
  ping: 6,
  'go-away': 7,
  headers: 8,
  'window-update': 9,
} as const satisfies Record<ControlFrame['type'], number>;

export const flags = { fin: 1, unidirectional: 2 } as const;

/** Reasons in RST_STREAM. */
export const resetStatus = { protocolError: 1, refusedStream: 3, cancel: 5 } as const;
/** Reasons in GOAWAY. */
export const goAwayStatus = { ok: 0, protocolError: 1 } as const;
/** Ids in SETTINGS. */
export const settingIds = { initialWindowSize: 7 } as const;

/** The peer does not keep to the protocol; the connection cannot go on. */
export class SpdyProtocolError extends Error {
  override readonly name = 'SpdyProtocolError';
}
