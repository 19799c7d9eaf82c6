import { mkdir, mkdtemp, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { hasCode, wrap } from '../platform/errors.ts';

/** The one program in the image: writes a line, then exits, or with any argument waits for a signal. */
export const rehearsalProgram = '/rehearse';

/**
 * x86-64 machine code, 63 bytes, no libraries: write(1, "rehearsal\n", 10); if (argc > 1) pause(); exit(0).
 * Small on purpose: a rehearsal is about the guest's kernel and agent, not about a program.
 */
const code = Buffer.from(
  'b801000000bf01000000488d351e000000ba0a0000000f05' + // write
    '48833c24017607b8220000000f05' + // argc > 1: pause
    'b83c00000031ff0f05' + // exit
    '72656865617273616c0a', // "rehearsal\n"
  'hex',
);

const elfHeaderBytes = 64;
const programHeaderBytes = 56;
const loadAddress = 0x400000n;

/** An ELF executable with one segment that holds the headers and the code (elf(5)). */
export function rehearsalExecutable(): Buffer {
  const start = elfHeaderBytes + programHeaderBytes;
  const file = Buffer.alloc(start + code.length);
  file.write('\x7fELF', 'latin1');
  file.set([2, 1, 1], 4); // 64 bit, little endian, version 1
  file.writeUInt16LE(2, 16); // executable
  file.writeUInt16LE(62, 18); // x86-64
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(loadAddress + BigInt(start), 24); // entry point
  file.writeBigUInt64LE(BigInt(elfHeaderBytes), 32); // program headers
  file.writeUInt16LE(elfHeaderBytes, 52);
  file.writeUInt16LE(programHeaderBytes, 54);
  file.writeUInt16LE(1, 56); // one of them
  const header = elfHeaderBytes;
  file.writeUInt32LE(1, header); // load
  file.writeUInt32LE(5, header + 4); // read, execute
  file.writeBigUInt64LE(loadAddress, header + 16);
  file.writeBigUInt64LE(loadAddress, header + 24);
  file.writeBigUInt64LE(BigInt(file.length), header + 32);
  file.writeBigUInt64LE(BigInt(file.length), header + 40);
  file.writeBigUInt64LE(0x1000n, header + 48);
  code.copy(file, start);
  return file;
}

export interface RehearsalImageOptions {
  /** Where it is kept; on the file system of the VMs' disks. */
  readonly path: string;
  readonly mkfsErofs: string;
  /** Size of every image file; the rest of it is a hole. */
  readonly bytes: number;
}

/** Makes the image that pooled VMs rehearse a claim with, unless it is there. */
export async function ensureRehearsalImage({ path, mkfsErofs, bytes }: RehearsalImageOptions): Promise<void> {
  try {
    if ((await stat(path)).size === bytes) return;
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
  const work = await mkdtemp(`${path}.`);
  try {
    const tree = join(work, 'tree');
    await mkdir(tree);
    for (const folder of ['proc', 'dev', 'sys', 'etc', 'tmp', 'data']) await mkdir(join(tree, folder));
    await writeFile(join(tree, rehearsalProgram), rehearsalExecutable(), { mode: 0o755 });
    const made = join(work, 'image');
    await execa(mkfsErofs, ['--quiet', '--all-root', '-T0', made, tree], { timeout: 30_000 });
    await truncate(made, bytes);
    await rename(made, path);
  } catch (error) {
    throw wrap(error, `make the rehearsal image ${path}`);
  } finally {
    await rm(work, { recursive: true });
  }
}
