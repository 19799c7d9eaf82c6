import { chmod, link, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, hasCode } from '../platform/errors.ts';
import { digestOfFile, hexOf } from './digest.ts';
import type { Descriptor } from './manifest.ts';

/**
 * Compressed layers and configurations by digest, in `sha256/<hex>`, shared by all images. A blob
 * gets in only whole and verified. What no image names and no pull works with is deleted by
 * `collect`.
 */
export class BlobStore {
  readonly #folder: string;
  readonly #pins = new Map<string, number>();

  constructor(folder: string) {
    this.#folder = join(folder, 'sha256');
  }

  async open(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
  }

  path(digest: string): string {
    return join(this.#folder, hexOf(digest));
  }

  async has(digest: string): Promise<boolean> {
    try {
      await stat(this.path(digest));
      return true;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw error;
    }
  }

  async read(digest: string): Promise<Uint8Array> {
    return await readFile(this.path(digest));
  }

  /** Links the blobs that are there into a folder of the same form, for a pull to find. */
  async lend(digests: readonly string[], folder: string): Promise<void> {
    const target = join(folder, 'sha256');
    await mkdir(target, { recursive: true, mode: 0o700 });
    for (const digest of digests) {
      if (await this.has(digest)) await link(this.path(digest), join(target, hexOf(digest)));
    }
  }

  /**
   * Takes over a file after looking at every byte of it, or at its size alone when its content `isChecked`. The file
   * may be that of the store.
   */
  async adopt(
    file: string,
    { digest, size }: Descriptor,
    { isChecked }: { readonly isChecked: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    if (await this.has(digest)) return;
    const found = await stat(file);
    const actual =
      found.size !== size ? `${String(found.size)} bytes` : isChecked ? digest : await digestOfFile(file, signal);
    if (actual !== digest) {
      throw new AppError(
        'failed-precondition',
        `corrupt image: blob ${digest} of ${String(size)} bytes came as ${actual}`,
      );
    }
    // Who builds file systems reads it as nobody; the folder is closed to all but root.
    await chmod(file, 0o444);
    await syncFile(file, 'content');
    await rename(file, this.path(digest));
    await syncFile(this.#folder);
  }

  /** Keeps blobs from being collected until the result is disposed of. */
  pin(digests: readonly string[]): Disposable {
    const change = (by: number): void => {
      for (const digest of digests) {
        const count = (this.#pins.get(digest) ?? 0) + by;
        if (count === 0) this.#pins.delete(digest);
        else this.#pins.set(digest, count);
      }
    };
    change(1);
    return {
      [Symbol.dispose]: () => {
        change(-1);
      },
    };
  }

  async collect(referenced: ReadonlySet<string>): Promise<void> {
    for (const hex of await readdir(this.#folder)) {
      const digest = `sha256:${hex}`;
      if (!referenced.has(digest) && !this.#pins.has(digest)) await rm(join(this.#folder, hex), { force: true });
    }
  }
}

/** `content`: without what nobody needs after a crash, such as its mode. */
async function syncFile(path: string, what: 'content' | 'all' = 'all'): Promise<void> {
  await using file = await open(path, 'r');
  if (what === 'content') await file.datasync();
  else await file.sync();
}
