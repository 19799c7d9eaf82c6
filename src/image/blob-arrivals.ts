import { watch, type FSWatcher } from 'node:fs';
import { join } from 'node:path';
import { hasCode } from '../platform/errors.ts';
import { isFile } from '../platform/file-kind.ts';
import { hexOf } from './digest.ts';

/**
 * The blobs that a copy puts into a folder, each under its hex digits, which it gets when it is whole. They may
 * be used as they come, before the copy has ended.
 */
export class BlobArrivals implements Disposable {
  readonly #folder: string;
  readonly #watcher: FSWatcher | undefined;
  #hasEnded = false;
  #change = Promise.withResolvers<undefined>();

  /** The folder must be there. */
  constructor(folder: string) {
    this.#folder = folder;
    this.#watcher = watched(folder, () => {
      this.#changed();
    });
  }

  /** Once the copy is over, all are there that will come. */
  endWith(copy: Promise<unknown>): void {
    const end = (): void => {
      this.#hasEnded = true;
      this.#changed();
    };
    copy.then(end, end);
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
  }

  /** The file of a blob, once it is there; undefined when the copy has ended without it. */
  async file(digest: string): Promise<string | undefined> {
    const path = join(this.#folder, hexOf(digest));
    for (;;) {
      const change = this.#change.promise;
      const hasEnded = this.#hasEnded;
      if (await isFile(path)) return path;
      if (hasEnded) return undefined;
      await change;
    }
  }

  #changed(): void {
    this.#change.resolve(undefined);
    this.#change = Promise.withResolvers<undefined>();
  }
}

/** Undefined when the host has no watch left: then what has come is seen when the copy ends. */
function watched(folder: string, changed: () => void): FSWatcher | undefined {
  try {
    return watch(folder, changed).on('error', changed);
  } catch (error) {
    if (hasCode(error, 'ENOSPC', 'EMFILE')) return undefined;
    throw error;
  }
}
