import { mkdir, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { removeUnfinishedFiles, writeFileAtomic } from '../platform/atomic-file.ts';
import { hasCode } from '../platform/errors.ts';

/**
 * Ids of pods to come that addresses were given to. They survive the host, as the leases do: an id that only the cache
 * of attachments knew would be lost with it, and the address with the id. An empty file for each.
 */
export class ReservedIds {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** To be called before anything else. */
  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await removeUnfinishedFiles(this.#directory);
  }

  async add(id: string): Promise<void> {
    await writeFileAtomic(join(this.#directory, id), '');
  }

  async remove(id: string): Promise<void> {
    await unlink(join(this.#directory, id)).catch((error: unknown) => {
      if (!hasCode(error, 'ENOENT')) throw error;
    });
  }

  async all(): Promise<readonly string[]> {
    return readdir(this.#directory);
  }
}
