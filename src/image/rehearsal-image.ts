import { mkdir, mkdtemp, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { wrap } from '../platform/errors.ts';
import { tinyProgram } from './tiny-program.ts';

/** More than a guest's kernel reads ahead at once. */
const dataBytes = 96 * 4096;

/** What guest/rehearsal expects to find, and a file in place of the program, which the guest has. */
const files: Readonly<Record<string, { readonly content: string | Buffer; readonly mode: number }>> = {
  'etc/passwd': { content: 'root:x:0:0:root:/root:/bin/sh\n', mode: 0o644 },
  'etc/group': { content: 'root:x:0:\n', mode: 0o644 },
  'data/pages': { content: Buffer.alloc(dataBytes, 1), mode: 0o644 },
  'bin/rehearse': { content: '', mode: 0o755 },
  'bin/tiny': { content: tinyProgram(), mode: 0o755 },
  'bin/script': { content: '#!/bin/rehearse child\n', mode: 0o755 },
};

export interface RehearsalImageOptions {
  /** Where it is kept; on the file system of the VMs' disks. */
  readonly path: string;
  readonly mkfsErofs: string;
  /** Size of every image file; the rest of it is a hole. */
  readonly bytes: number;
}

/** Makes the image that pooled VMs rehearse a claim with. One of an earlier version is replaced. */
export async function makeRehearsalImage({ path, mkfsErofs, bytes }: RehearsalImageOptions): Promise<void> {
  const work = await mkdtemp(`${path}.`);
  try {
    const tree = join(work, 'tree');
    for (const folder of ['bin', 'data', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp'])
      await mkdir(join(tree, folder), { recursive: true });
    for (const [name, { content, mode }] of Object.entries(files)) await writeFile(join(tree, name), content, { mode });
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
