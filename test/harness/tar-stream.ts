/** One member of a tar archive. */
export interface TarEntry {
  readonly name: string;
  readonly type: 'file' | 'folder' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly data?: string | Uint8Array;
  readonly target?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: Readonly<Record<string, string>>;
}

const blockSize = 512;
const flags = { file: '0', hardlink: '1', symlink: '2', char: '3', block: '4', folder: '5', fifo: '6' } as const;
const maxUstarName = 100;
const xattrPrefix = 'SCHILY.xattr.';

/** A pax archive of the entries just as they are: nothing is sorted, completed or refused. */
export function writeTar(entries: readonly TarEntry[]): Buffer {
  const parts = entries.flatMap((entry) => [...paxHeader(entry), ...member(entry)]);
  return Buffer.concat([...parts, Buffer.alloc(2 * blockSize)]);
}

function member(entry: TarEntry): Buffer[] {
  const data = Buffer.from(entry.data ?? '');
  return [header(entry.name, flags[entry.type], data.length, entry), padded(data)];
}

function paxHeader(entry: TarEntry): Buffer[] {
  const records: [string, string][] = Object.entries(entry.xattrs ?? {}).map(([k, v]) => [`${xattrPrefix}${k}`, v]);
  if (needsPax(entry.name)) records.push(['path', entry.name]);
  if (entry.target !== undefined && needsPax(entry.target)) records.push(['linkpath', entry.target]);
  if (records.length === 0) return [];
  const data = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
  return [header('PaxHeader', 'x', data.length, { name: '', type: 'file' }), padded(data)];
}

function needsPax(name: string): boolean {
  return Buffer.byteLength(name) > maxUstarName || Buffer.byteLength(name) !== name.length;
}

/** "LENGTH key=value\n", the length being that of the whole record. Values may be any bytes (latin1 here for xattrs). */
function paxRecord(key: string, value: string): Buffer {
  const encoding = key.startsWith(xattrPrefix) ? 'latin1' : 'utf8';
  const body = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value, encoding), Buffer.from('\n')]);
  let length = body.length;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return Buffer.concat([Buffer.from(String(length)), body]);
}

function header(name: string, flag: string, size: number, entry: TarEntry): Buffer {
  const block = Buffer.alloc(blockSize);
  const octal = (value: number, at: number, width: number): void => {
    block.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at);
  };
  block.write(name, 0, maxUstarName);
  octal(entry.mode ?? (entry.type === 'folder' ? 0o755 : 0o644), 100, 8);
  octal(entry.uid ?? 0, 108, 8);
  octal(entry.gid ?? 0, 116, 8);
  octal(size, 124, 12);
  octal(entry.mtime ?? 1_000_000_000, 136, 12);
  block.write(' '.repeat(8), 148);
  block.write(flag, 156);
  block.write(entry.target ?? '', 157, maxUstarName);
  block.write('ustar\x0000', 257);
  octal(entry.major ?? 0, 329, 8);
  octal(entry.minor ?? 0, 337, 8);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

function padded(data: Uint8Array): Buffer {
  return Buffer.concat([data, Buffer.alloc((blockSize - (data.length % blockSize)) % blockSize)]);
}

/** Reads what GNU tar writes with --format=pax. */
export function readTar(archive: Buffer): TarEntry[] {
  const entries: TarEntry[] = [];
  let pax = new Map<string, string>();
  for (let at = 0; at + blockSize <= archive.length && archive[at] !== 0;) {
    const block = archive.subarray(at, at + blockSize);
    const text = (from: number, width: number): string => {
      const field = block.subarray(from, from + width);
      const end = field.indexOf(0);
      return field.subarray(0, end < 0 ? width : end).toString();
    };
    const number = (from: number, width: number): number => Number.parseInt(text(from, width).trim() || '0', 8);
    const size = Number(pax.get('size') ?? number(124, 12));
    const data = archive.subarray(at + blockSize, at + blockSize + size);
    at += blockSize + Math.ceil(size / blockSize) * blockSize;
    const flag = text(156, 1);
    if (flag === 'x') {
      pax = readPax(data);
      continue;
    }
    const type = Object.entries(flags).find(([, f]) => f === flag)?.[0] as TarEntry['type'] | undefined;
    if (type === undefined) throw new Error(`tar: unknown type ${flag}`);
    const prefix = text(345, 155);
    entries.push({
      name: pax.get('path') ?? (prefix === '' ? text(0, 100) : `${prefix}/${text(0, 100)}`),
      type,
      mode: number(100, 8),
      uid: Number(pax.get('uid') ?? number(108, 8)),
      gid: Number(pax.get('gid') ?? number(116, 8)),
      mtime: Math.floor(Number(pax.get('mtime') ?? number(136, 12))),
      data,
      target: pax.get('linkpath') ?? text(157, 100),
      major: number(329, 8),
      minor: number(337, 8),
      xattrs: Object.fromEntries(
        [...pax].filter(([k]) => k.startsWith(xattrPrefix)).map(([k, v]) => [k.slice(xattrPrefix.length), v]),
      ),
    });
    pax = new Map();
  }
  return entries;
}

function readPax(data: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  for (let at = 0; at < data.length;) {
    const space = data.indexOf(' ', at);
    const length = Number(data.subarray(at, space).toString());
    const equals = data.indexOf('=', space);
    const key = data.subarray(space + 1, equals).toString();
    const value = data.subarray(equals + 1, at + length - 1);
    records.set(key, value.toString(key.startsWith(xattrPrefix) ? 'latin1' : 'utf8'));
    at += length;
  }
  return records;
}
