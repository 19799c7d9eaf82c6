const BLOCK = 512;

/** A tar archive (POSIX.1-1988 ustar) that holds the root folder, owned by root, mode 0755. */
export function rootFolderTar(): Uint8Array {
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, '0')}\0`;
  header.write('./', 0);
  header.write(octal(0o755, 7), 100);
  header.write(octal(0, 7), 108);
  header.write(octal(0, 7), 116);
  header.write(octal(0, 11), 124);
  header.write(octal(0, 11), 136);
  // The checksum is taken with its own field full of spaces.
  header.write(' '.repeat(8), 148);
  header.write('5', 156);
  header.write('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${octal(sum, 6)} `, 148);
  return Buffer.concat([header, Buffer.alloc(2 * BLOCK)]);
}
