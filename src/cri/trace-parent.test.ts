import { expect, test } from '@jest/globals';
import { Metadata } from '@grpc/grpc-js';
import { traceParentOf } from './trace-parent.ts';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const spanId = 'b7ad6b7169203331';

function parentOf(text?: string) {
  const metadata = new Metadata();
  if (text !== undefined) metadata.set('traceparent', text);
  return traceParentOf(metadata);
}

test.each([`00-${traceId}-${spanId}-01`, `00-${traceId}-${spanId}-03`, `cc-${traceId}-${spanId}-01-what-comes`])(
  'the span of a caller: %s',
  (text) => {
    expect(parentOf(text)).toEqual({ traceId, spanId });
  },
);

test.each([
  ['nothing', undefined],
  ['what the caller does not record', `00-${traceId}-${spanId}-00`],
  ['no trace', `00-${'0'.repeat(32)}-${spanId}-01`],
  ['no span', `00-${traceId}-${'0'.repeat(16)}-01`],
  ['a forbidden version', `ff-${traceId}-${spanId}-01`],
  ['too much for its version', `00-${traceId}-${spanId}-01-x`],
  ['capitals', `00-${traceId.toUpperCase()}-${spanId}-01`],
  ['too little', `00-${traceId}-01`],
])('is not to be had from %s', (_, text) => {
  expect(parentOf(text)).toBeUndefined();
});
