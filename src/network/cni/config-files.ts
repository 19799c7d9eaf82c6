import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, messageOf } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';
import { parseConfigFile } from './config-schema.ts';
import type { NetworkConfiguration } from './config-schema.ts';

/** A file that comes before the chosen one and is not used. */
export interface SkippedFile {
  readonly file: string;
  readonly reason: string;
}

export type ConfigState =
  | {
      readonly found: true;
      readonly file: string;
      readonly configuration: NetworkConfiguration;
      readonly skipped: readonly SkippedFile[];
    }
  | { readonly found: false; readonly problem: string; readonly skipped: readonly SkippedFile[] };

export interface ConfigFilesOptions {
  readonly directory: string;
  readonly log: Log;
  /** Called after a load whose outcome differs from the one before. */
  readonly onChange?: (state: ConfigState) => void;
  readonly debounceMs?: number;
  /** For what fs.watch misses: a directory made later, network file systems, replaced mounts. */
  readonly pollMs?: number;
}

const EXTENSIONS = ['.conf', '.conflist', '.json'];

/**
 * The network configuration of a directory: the first valid file in lexical order. Follows changes
 * by itself once watched, and `refresh` makes certain at the price of some stat calls.
 */
export class ConfigFiles {
  readonly #options: ConfigFilesOptions;
  #state: ConfigState;
  #fingerprint: string | undefined;
  #refreshing: Promise<ConfigState> | undefined;
  #watcher: { readonly handle: FSWatcher; readonly inode: bigint } | undefined;
  #poll: NodeJS.Timeout | undefined;
  #debounce: NodeJS.Timeout | undefined;

  constructor(options: ConfigFilesOptions) {
    this.#options = options;
    this.#state = { found: false, problem: this.#none('not loaded yet'), skipped: [] };
  }

  current(): ConfigState {
    return this.#state;
  }

  /** The state of the directory as it is now. Calls at the same time share the work. */
  async refresh(): Promise<ConfigState> {
    this.#refreshing ??= this.#load().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  /** Follows changes until closed. */
  async watch(): Promise<void> {
    await this.#rewatch();
    this.#poll = setInterval(() => {
      this.#inBackground(this.#rewatch().then(() => this.refresh()));
    }, this.#options.pollMs ?? 5_000);
    this.#poll.unref();
  }

  close(): void {
    clearInterval(this.#poll);
    clearTimeout(this.#debounce);
    this.#watcher?.handle.close();
    this.#watcher = undefined;
  }

  /** Watches the directory that has the name now; another may have taken its place. */
  async #rewatch(): Promise<void> {
    const inode = await stat(this.#options.directory, { bigint: true }).then(
      (each) => each.ino,
      () => undefined,
    );
    if (inode === this.#watcher?.inode) return;
    this.#watcher?.handle.close();
    this.#watcher = undefined;
    if (inode === undefined) return;
    try {
      const handle = watch(this.#options.directory, { persistent: false }, () => {
        // An installer writes several files, or one in several steps.
        clearTimeout(this.#debounce);
        this.#debounce = setTimeout(() => {
          this.#inBackground(this.refresh());
        }, this.#options.debounceMs ?? 100);
        this.#debounce.unref();
      });
      handle.on('error', () => {
        handle.close();
        this.#watcher = undefined; // the poll tries again
      });
      this.#watcher = { handle, inode };
    } catch (error) {
      this.#options.log.debug({ err: error }, 'cannot watch the CNI configuration directory, polling');
    }
  }

  #inBackground(work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      this.#options.log.warn({ err: error }, `cannot read the CNI configuration directory ${this.#options.directory}`);
    });
  }

  async #load(): Promise<ConfigState> {
    const { directory } = this.#options;
    let names: string[];
    try {
      names = (await readdir(directory))
        .filter((name) => EXTENSIONS.some((extension) => name.endsWith(extension)))
        .sort();
    } catch (error) {
      const why = hasCode(error, 'ENOENT') ? 'the directory does not exist' : messageOf(error);
      return this.#become(why, { found: false, problem: this.#none(why), skipped: [] });
    }
    const fingerprint = (await Promise.all(names.map((name) => this.#fileFingerprint(name)))).join('\n');
    if (fingerprint === this.#fingerprint) return this.#state;

    const skipped: SkippedFile[] = [];
    for (const name of names) {
      try {
        const configuration = parseConfigFile(name, await readFile(join(directory, name), 'utf8'));
        return this.#become(fingerprint, { found: true, file: join(directory, name), configuration, skipped });
      } catch (error) {
        skipped.push({ file: join(directory, name), reason: messageOf(error) });
      }
    }
    const why =
      skipped.length === 0
        ? `it holds no ${EXTENSIONS.join(', ')} file`
        : skipped.map(({ file, reason }) => `${file}: ${reason}`).join('; ');
    return this.#become(fingerprint, { found: false, problem: this.#none(why), skipped });
  }

  async #fileFingerprint(name: string): Promise<string> {
    try {
      const { ino, size, mtimeNs, ctimeNs } = await stat(join(this.#options.directory, name), { bigint: true });
      return [name, ino, size, mtimeNs, ctimeNs].join(' ');
    } catch (error) {
      return `${name} ${messageOf(error)}`;
    }
  }

  #become(fingerprint: string, state: ConfigState): ConfigState {
    this.#fingerprint = fingerprint;
    if (JSON.stringify(state) !== JSON.stringify(this.#state)) {
      this.#state = state;
      for (const { file, reason } of state.skipped)
        this.#options.log.warn(`CNI configuration ${file} is not used: ${reason}`);
      if (state.found) this.#options.log.info(`CNI network ${state.configuration.name} from ${state.file}`);
      this.#options.onChange?.(state);
    }
    return this.#state;
  }

  #none(why: string): string {
    return `no valid CNI configuration in ${this.#options.directory}: ${why}`;
  }
}
