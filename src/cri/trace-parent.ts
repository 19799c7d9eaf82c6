import type { Metadata } from '@grpc/grpc-js';
import type { TraceParent } from '../podsandbox/trace-model.ts';

const pattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const sampled = 1;

/**
 * The span of the caller that a call is part of, https://www.w3.org/TR/trace-context/. A caller that does not
 * record its own is none: what we record would hang in the air.
 */
export function traceParentOf(metadata: Pick<Metadata, 'get'>): TraceParent | undefined {
  const [text] = metadata.get('traceparent');
  const [, version, traceId, spanId, flags, more] = pattern.exec(String(text ?? '')) ?? [];
  if (traceId === undefined || spanId === undefined || version === 'ff') return undefined;
  // Version 00 ends with the flags; later ones may say more.
  if (version === '00' && more !== undefined) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return (parseInt(flags ?? '', 16) & sampled) === 0 ? undefined : { traceId, spanId };
}
