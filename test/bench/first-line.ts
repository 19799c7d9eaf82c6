import { readFileSync, watch, type FSWatcher } from 'node:fs';

/**
 * Notices when a file gets its first whole line. Told by the kernel: a loop that looks would take the
 * processor from what is measured.
 */
export class FirstLine implements Disposable {
  /** The line, and the time on the clock of performance.now(). */
  readonly seen: Promise<{ readonly at: number; readonly line: string }>;
  readonly #watcher: FSWatcher;
  readonly #timer: NodeJS.Timeout;

  /** The folder has to be there; the file need not. */
  constructor(folder: string, file: string, timeoutMs: number) {
    const { promise, resolve, reject } = Promise.withResolvers<{ readonly at: number; readonly line: string }>();
    // Whoever made this may fail before it waits.
    promise.catch(() => undefined);
    this.seen = promise;
    this.#watcher = watch(folder, () => {
      const at = performance.now();
      const line = firstLineOf(file);
      if (line !== undefined) resolve({ at, line });
    });
    this.#watcher.on('error', reject);
    this.#timer = setTimeout(() => {
      reject(new Error(`${file}: no line within ${String(timeoutMs)} ms`));
    }, timeoutMs);
  }

  [Symbol.dispose](): void {
    this.#watcher.close();
    clearTimeout(this.#timer);
  }
}

function firstLineOf(file: string): string | undefined {
  try {
    const text = readFileSync(file, 'utf8');
    const end = text.indexOf('\n');
    return end < 0 ? undefined : text.slice(0, end);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
