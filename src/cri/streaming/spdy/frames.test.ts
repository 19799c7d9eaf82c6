import { createDeflate, constants } from 'node:zlib';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { dictionary } from './dictionary.ts';
import { encodeControl, encodeDataHead } from './frame-encoder.ts';
import { FrameDecoder } from './frame-decoder.ts';
import { type Frame, SpdyProtocolError } from './frames.ts';
import { decodeHeaders, encodeHeaders } from './header-block.ts';
import { HeaderDeflater } from './header-deflater.ts';
import { HeaderInflater } from './header-inflater.ts';

const streamId = fc.integer({ min: 1, max: 0x7fff_ffff });
const word = fc.integer({ min: 0, max: 0xffff_ffff });
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const block = bytes(300);
const fin = fc.boolean();

const frame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({ type: fc.constant('data' as const), streamId, fin, data: bytes(9000) }),
  fc.record({ type: fc.constant('syn-stream' as const), streamId, fin, unidirectional: fc.boolean(), block }),
  fc.record({ type: fc.constantFrom('syn-reply' as const, 'headers' as const), streamId, fin, block }),
  fc.record({ type: fc.constant('rst-stream' as const), streamId, status: word }),
  fc.record({ type: fc.constant('ping' as const), id: word }),
  fc.record({ type: fc.constant('go-away' as const), lastStreamId: streamId, status: word }),
  fc.record({ type: fc.constant('window-update' as const), streamId, delta: streamId }),
  fc.record({
    type: fc.constant('settings' as const),
    values: fc
      .dictionary(fc.integer({ min: 0, max: 0xff_ffff }).map(String), word, { maxKeys: 9 })
      .map(
        (values): ReadonlyMap<number, number> =>
          new Map(Object.entries(values).map(([id, value]) => [Number(id), value])),
      ),
  }),
);

function encode(one: Frame): Buffer {
  if (one.type !== 'data') return encodeControl(one);
  return Buffer.concat([encodeDataHead(one.streamId, one.data.length, one.fin), one.data]);
}

/** Cuts at the given places, which are taken modulo the length. */
function cut(whole: Buffer, places: readonly number[]): Buffer[] {
  const edges = [0, ...places.map((place) => place % (whole.length + 1)).sort((a, b) => a - b), whole.length];
  return edges.slice(1).map((end, index) => whole.subarray(edges[index], end));
}

/** The pieces of a data frame put together again. */
function merged(frames: readonly Frame[], originals: readonly Frame[]): Frame[] {
  const result: Frame[] = [];
  const left = [...frames];
  for (const original of originals) {
    const first = left.shift();
    if (first === undefined) break;
    if (first.type !== 'data' || original.type !== 'data') {
      result.push(first);
      continue;
    }
    let whole = first;
    while (whole.data.length < original.data.length) {
      const next = left.shift();
      if (next?.type !== 'data' || whole.fin) throw new Error('a data frame that is not continued');
      whole = { ...next, data: Buffer.concat([whole.data, next.data]) };
    }
    result.push(whole);
  }
  return [...result, ...left];
}

describe('frames', () => {
  test('come out as they went in, however the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 12 }), (frames, places) => {
        const decoder = new FrameDecoder();
        const out = cut(Buffer.concat(frames.map(encode)), places).flatMap((chunk) => [...decoder.push(chunk)]);
        expect(merged(out, frames)).toEqual(frames);
      }),
    );
  });

  test('random bytes end in frames or in SpdyProtocolError', () => {
    fc.assert(
      fc.property(fc.array(bytes(200), { maxLength: 8 }), (chunks) => {
        const decoder = new FrameDecoder();
        try {
          for (const chunk of chunks) Array.from(decoder.push(chunk));
        } catch (error) {
          if (!(error instanceof SpdyProtocolError)) throw error;
        }
      }),
    );
  });

  test('a type that is not known is skipped; a version that is not is an error', () => {
    const credential = Buffer.from('8003000a00000003616263', 'hex');
    expect([...new FrameDecoder().push(Buffer.concat([credential, encode({ type: 'ping', id: 1 })]))]).toEqual([
      { type: 'ping', id: 1 },
    ]);
    expect(() => [...new FrameDecoder().push(Buffer.from('8002000600000004', 'hex'))]).toThrow('SPDY version 2');
  });

  test('a control frame without measure is refused before it is there', () => {
    expect(() => [...new FrameDecoder().push(Buffer.from('8003000100ffffff', 'hex'))]).toThrow(SpdyProtocolError);
  });
});

describe('header blocks', () => {
  const headers = fc.dictionary(fc.stringMatching(/^[a-z-]{1,20}$/), fc.stringMatching(/^[ -~]{0,50}$/), {
    maxKeys: 6,
  });

  test('of one connection are inflated one after the other, as a client deflates them', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(headers, { minLength: 1, maxLength: 5 }), async (list) => {
        using inflater = new HeaderInflater();
        const deflate = createDeflate({ dictionary });
        for (const one of list) {
          const map = new Map(Object.entries(one));
          const turn = Promise.withResolvers<undefined>();
          deflate.write(encodeHeaders(map));
          deflate.flush(constants.Z_SYNC_FLUSH, () => {
            turn.resolve(undefined);
          });
          await turn.promise;
          expect(decodeHeaders(await inflater.inflate(deflate.read() as Buffer))).toEqual(map);
        }
        deflate.destroy();
      }),
      { numRuns: 30 },
    );
  });

  test('of the server are such a stream, too', async () => {
    using inflater = new HeaderInflater();
    const deflater = new HeaderDeflater();
    for (const text of ['one', '', 'two']) {
      expect((await inflater.inflate(deflater.deflate(Buffer.from(text)))).toString()).toBe(text);
    }
  });

  test('that explode, or are none, are refused', async () => {
    const deflate = createDeflate({ dictionary });
    deflate.end(Buffer.alloc(10_000_000));
    const bomb = Buffer.concat(await deflate.toArray());
    for (const block of [bomb, Buffer.from('not deflated')]) {
      using inflater = new HeaderInflater();
      await expect(inflater.inflate(block)).rejects.toThrow(SpdyProtocolError);
    }
  });

  test('random bytes are headers or an error', () => {
    fc.assert(
      fc.property(bytes(100), (raw) => {
        try {
          decodeHeaders(raw);
        } catch (error) {
          if (!(error instanceof SpdyProtocolError)) throw error;
        }
      }),
    );
  });
});
