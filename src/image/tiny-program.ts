const pageBytes = 4096;
const address = 0x400000;
const headerBytes = 64;
const segmentBytes = 56;
/** In the middle, so that the kernel has to read on after the head of the file, as with any larger program. */
const entryPage = 40;
const pages = 64;
/** mov eax, 60 (exit); xor edi, edi; syscall */
const code = Buffer.from('b83c00000031ff0f05', 'hex');

/**
 * An executable for x86-64 that does nothing but end with 0. Layout: System V ABI, ELF-64 (elf(5)), one segment
 * that is the whole file.
 */
export function tinyProgram(): Buffer {
  const file = Buffer.alloc(pages * pageBytes);
  const entry = entryPage * pageBytes;
  Buffer.from('7f454c46020101', 'hex').copy(file); // magic, 64 bits, little endian, version 1
  file.writeUInt16LE(2, 16); // executable
  file.writeUInt16LE(62, 18); // x86-64
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(address + entry), 24);
  file.writeBigUInt64LE(BigInt(headerBytes), 32); // where the segments are
  file.writeUInt16LE(headerBytes, 52);
  file.writeUInt16LE(segmentBytes, 54);
  file.writeUInt16LE(1, 56);
  file.writeUInt32LE(1, headerBytes); // to be loaded
  file.writeUInt32LE(5, headerBytes + 4); // read, execute
  file.writeBigUInt64LE(BigInt(address), headerBytes + 16);
  file.writeBigUInt64LE(BigInt(address), headerBytes + 24);
  file.writeBigUInt64LE(BigInt(file.length), headerBytes + 32);
  file.writeBigUInt64LE(BigInt(file.length), headerBytes + 40);
  file.writeBigUInt64LE(BigInt(pageBytes), headerBytes + 48);
  code.copy(file, entry);
  return file;
}
