import { AppError } from '../platform/errors.ts';

/** https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html, section "ustar Interchange Format". */
export const TAR_BLOCK = 512;

const NAME = { at: 0, width: 100 };
const SIZE = { at: 124, width: 12 };
const CHECKSUM = { at: 148, width: 8 };
const TYPE_AT = 156;
const LINK_NAME = { at: 157, width: 100 };
const MAGIC = { at: 257, width: 6 };
const PREFIX = { at: 345, width: 155 };

type Field = typeof NAME;

export interface TarHeader {
  readonly type: string;
  /** The type is not the one that is written there. */
  readonly isOldFolder: boolean;
  readonly name: string;
  readonly linkName: string;
  readonly size: number;
}

/** Reads the fields that matter for finding one's way through an archive. */
export function readHeader(block: Buffer): TarHeader {
  if (Number.parseInt(textOf(block, CHECKSUM), 8) !== checksumOf(block)) throw malformed('bad header checksum');
  const isUstar = textOf(block, MAGIC) === 'ustar';
  const prefix = isUstar ? textOf(block, PREFIX) : '';
  const name = textOf(block, NAME);
  const type = String.fromCharCode(block[TYPE_AT] ?? 0);
  const isFile = type === '\0' || type === '0';
  // Before POSIX a folder was a file with a slash at its end.
  const isOldFolder = isFile && name.endsWith('/');
  return {
    ...{ type: isOldFolder ? '5' : isFile ? '0' : type, isOldFolder },
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkName: textOf(block, LINK_NAME),
    size: numberOf(block, SIZE),
  };
}

/** Header of a file (type 0), folder (5) or extended header (x), owned by root, mode 0755. */
export function makeHeader(type: '0' | '5' | 'x', name: string, size: number): Buffer {
  const block = Buffer.alloc(TAR_BLOCK);
  block.write(name, NAME.at, NAME.width);
  block.write(octal(0o755, 8), 100);
  block.write(octal(0, 8), 108);
  block.write(octal(0, 8), 116);
  block.write(octal(size, SIZE.width), SIZE.at);
  block.write(octal(0, 12), 136);
  block.write(type, TYPE_AT);
  block.write('ustar\x0000', MAGIC.at);
  seal(block);
  return block;
}

export function isZeroBlock(block: Buffer): boolean {
  return block.every((byte) => byte === 0);
}

/** Bytes up to the next block. */
export function paddingOf(size: number): number {
  return (TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK;
}

export function malformed(why: string): AppError {
  return new AppError('failed-precondition', `corrupt image: layer is not a proper tar: ${why}`);
}

function seal(block: Buffer): void {
  block.write(`${octal(checksumOf(block), 7)} `, CHECKSUM.at);
}

/** The checksum is taken with its own field full of spaces. */
function checksumOf(block: Buffer): number {
  let sum = 32 * CHECKSUM.width;
  for (let i = 0; i < TAR_BLOCK; i += 1) {
    if (i < CHECKSUM.at || i >= CHECKSUM.at + CHECKSUM.width) sum += block[i] ?? 0;
  }
  return sum;
}

function octal(value: number, width: number): string {
  return `${value.toString(8).padStart(width - 1, '0')}\0`;
}

function textOf(block: Buffer, { at, width }: Field): string {
  const field = block.subarray(at, at + width);
  const end = field.indexOf(0);
  return field
    .subarray(0, end < 0 ? width : end)
    .toString('latin1')
    .trim() === ''
    ? ''
    : field.subarray(0, end < 0 ? width : end).toString('utf8');
}

/** Octal digits, or for what these cannot hold a big-endian number marked by the top bit. */
function numberOf(block: Buffer, field: Field): number {
  const first = block[field.at] ?? 0;
  const value =
    (first & 0x80) === 0
      ? Number.parseInt(textOf(block, field).trim() || '0', 8)
      : block.subarray(field.at + 1, field.at + field.width).reduce((sum, byte) => sum * 256 + byte, first & 0x7f);
  if (!Number.isSafeInteger(value) || value < 0) throw malformed('bad size');
  return value;
}
