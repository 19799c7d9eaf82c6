import { TAR_BLOCK, makeHeader, malformed, paddingOf } from './tar-header.ts';

/** Values are kept as bytes: those of extended attributes are no text. */
export type PaxRecords = ReadonlyMap<string, Buffer>;

/** Reads the body of an extended header: lines of "LENGTH key=value", the length being that of the line. */
export function readPaxRecords(body: Buffer): PaxRecords {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < body.length;) {
    const space = body.indexOf(' ', at);
    const length = Number(body.subarray(at, Math.max(space, at)).toString());
    const equals = body.indexOf('=', space);
    const end = at + length;
    const isLine = space > at && Number.isSafeInteger(length) && end <= body.length && equals > space && equals < end;
    if (!isLine || body[end - 1] !== 0x0a) throw malformed('bad extended header');
    records.set(body.subarray(space + 1, equals).toString(), body.subarray(equals + 1, end - 1));
    at = end;
  }
  return records;
}

/** The whole extended header as it stands before a member; nothing when there are no records. */
export function writePaxRecords(records: PaxRecords): Buffer {
  if (records.size === 0) return Buffer.alloc(0);
  const body = Buffer.concat([...records].map(([key, value]) => recordOf(key, value)));
  return Buffer.concat([makeHeader('x', 'PaxHeader', body.length), body, Buffer.alloc(paddingOf(body.length))]);
}

function recordOf(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length > length) length += 1;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

/** More is no list of attributes but an attack on memory. */
export const MAX_EXTENDED_HEADER = 2048 * TAR_BLOCK;
