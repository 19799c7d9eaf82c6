import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../platform/atomic-file.ts';
import { hasCode, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { TemplateState } from './hypervisor.ts';
import type { HeldMemory, TemplateMemories } from './template-memory.ts';
import { templateRecord, type TemplateRecord } from './template-record.ts';

const recordName = 'template.json';
const stateName = 'state';

/** Templates on disk, by key: the folder has the device state and the record that names the holder of the memory. */
export class TemplateStore {
  readonly #folder: string;
  readonly #memories: TemplateMemories;
  readonly #log: Log;

  constructor(folder: string, memories: TemplateMemories, log: Log) {
    this.#folder = folder;
    this.#memories = memories;
    this.#log = log;
  }

  /** A complete template whose memory is still held. */
  async find(key: string): Promise<TemplateState | undefined> {
    const record = await this.#read(key);
    if (!record?.complete || record.key !== key) return undefined;
    const memory = await this.#memories.find(record.holder);
    if (!memory) {
      this.#tellUnusable(key, `process ${String(record.holder.pid)}, which held its memory, has ended`);
      return undefined;
    }
    const stateFile = join(this.#folder, key, stateName);
    try {
      await stat(stateFile);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
      this.#tellUnusable(key, `${stateFile} is gone`);
      return undefined;
    }
    return { memory, stateFile };
  }

  /** It was complete once, so somebody has interfered. */
  #tellUnusable(key: string, why: string): void {
    this.#log.warn(`template ${key} cannot be used and is made again: ${why}`);
  }

  /**
   * Makes a template: `fill` gets fresh memory and the path for the device state, and when it is done
   * no process may have the memory mapped any more. On an error nothing of it is left.
   */
  async make(
    key: string,
    memoryBytes: number,
    fill: (memory: HeldMemory, stateFile: string) => Promise<void>,
  ): Promise<TemplateState> {
    await this.remove(key);
    const folder = join(this.#folder, key);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const memory = await this.#memories.create(`kelyfos-${key.slice(0, 12)}`, memoryBytes);
    const record: TemplateRecord = {
      version: 1,
      key,
      complete: false,
      holder: { ...memory.holder },
      memoryBytes,
      createdAt: new Date().toISOString(),
    };
    const stateFile = join(folder, stateName);
    try {
      await this.#write(record);
      await fill(memory, stateFile);
      await this.#memories.seal(memory);
      await this.#write({ ...record, complete: true });
    } catch (error) {
      await this.#memories.free(memory);
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
    return { memory, stateFile };
  }

  /**
   * Ends the holder and deletes the folder. Clones may still run: what they have mapped lives on
   * with them and goes with the last one.
   */
  async remove(key: string): Promise<void> {
    const record = await this.#read(key);
    const memory = record && (await this.#memories.find(record.holder));
    if (memory) await this.#memories.free(memory);
    await rm(join(this.#folder, key), { recursive: true, force: true });
  }

  /** Removes all templates but these. */
  async keepOnly(keys: ReadonlySet<string>): Promise<string[]> {
    let names: string[];
    try {
      names = await readdir(this.#folder);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    }
    const stale = names.filter((name) => !keys.has(name));
    for (const key of stale) await this.remove(key);
    return stale;
  }

  async #write(record: TemplateRecord): Promise<void> {
    await writeFileAtomic(join(this.#folder, record.key, recordName), `${JSON.stringify(record, undefined, 2)}\n`);
  }

  async #read(key: string): Promise<TemplateRecord | undefined> {
    const path = join(this.#folder, key, recordName);
    try {
      return templateRecord.parse(JSON.parse(await readFile(path, 'utf8')));
    } catch (error) {
      // A template can always be made again: one that cannot be read is as good as none.
      if (!hasCode(error, 'ENOENT')) this.#log.warn(`template record ${path} cannot be read: ${messageOf(error)}`);
      return undefined;
    }
  }
}
