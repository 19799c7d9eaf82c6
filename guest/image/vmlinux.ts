import { execa } from 'execa';

/** How a Linux build compresses its kernel: first bytes of the payload, and the program that undoes it. */
const compressions: readonly (readonly [magic: readonly number[], program: string, args: readonly string[]])[] = [
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], 'xz', ['-dc', '--single-stream']],
  [[0x28, 0xb5, 0x2f, 0xfd], 'zstd', ['-dcq']],
  [[0x1f, 0x8b], 'gzip', ['-dcq']],
];

/**
 * The ELF kernel inside a bzImage. Its boot protocol header says where the compressed payload is
 * (linux/Documentation/x86/boot.rst). QEMU starts an ELF kernel by its PVH entry, which leaves
 * decompression, slow under emulation, out of every boot.
 */
export async function extractVmlinux(bzImage: Buffer): Promise<Uint8Array> {
  if (bzImage.toString('latin1', 0x202, 0x206) !== 'HdrS') throw new Error('kernel: no boot protocol header');
  const setupSectors = bzImage.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + bzImage.readUInt32LE(0x248);
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c));
  const compression = compressions.find(([magic]) => payload.subarray(0, magic.length).equals(Buffer.from(magic)));
  if (compression === undefined) throw new Error(`kernel: unknown compression ${payload.toString('hex', 0, 6)}`);
  const [, program, args] = compression;
  // The size follows the compressed stream; gzip and zstd end with a complaint about those four bytes.
  const result = await execa(program, args, {
    input: payload,
    encoding: 'buffer',
    maxBuffer: 1 << 28,
    timeout: 120_000,
    reject: false,
  });
  const elf = result.stdout;
  if (Buffer.from(elf.subarray(0, 4)).toString('latin1') !== '\u007fELF') {
    throw new Error(`kernel: ${program}: ${result.message ?? 'the payload is not an ELF file'}`);
  }
  return elf;
}
