import { mkdir, readFile, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { removeUnfinishedFiles, writeFileAtomic } from '../../platform/atomic-file.ts';
import { AppError, hasCode } from '../../platform/errors.ts';
import { pluginSchema } from './config-schema.ts';
import type { NetworkConfiguration } from './config-schema.ts';
import { CNI_VERSIONS } from './version.ts';

/** The interface every pod gets, and that its guest has. */
export const POD_INTERFACE = 'eth0';

/** All that DEL needs to undo an ADD, whatever has happened to the configuration files since. */
export interface Attachment {
  readonly sandboxId: string;
  readonly netns: string;
  readonly configuration: NetworkConfiguration;
  /** Value of CNI_ARGS. */
  readonly cniArgs: string;
  readonly capabilityArgs: Readonly<Record<string, unknown>>;
  /** Result of the last plugin that succeeded. */
  readonly result?: unknown;
  /** All plugins of the chain have succeeded. */
  readonly complete: boolean;
  /** Made before there was a pod; `sandboxId` is the id it will have. */
  readonly ahead?: boolean | undefined;
}

const version = 1;

const recordSchema = z.object({
  version: z.literal(version),
  sandboxId: z.string(),
  netns: z.string(),
  configuration: z.object({
    name: z.string(),
    cniVersion: z.enum(CNI_VERSIONS),
    plugins: z.array(pluginSchema).readonly(),
  }),
  cniArgs: z.string(),
  capabilityArgs: z.record(z.string(), z.unknown()),
  result: z.unknown().optional(),
  complete: z.boolean(),
  ahead: z.boolean().optional(),
});

/**
 * One file per attachment, written before the first plugin runs (a crash in the middle of ADD then
 * still leads to DEL), after each plugin, and removed after DEL. They need not survive the host, as the
 * namespaces do not either; what is left of addresses is then given back without them.
 */
export class AttachmentCache {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Clears away what a crash of the daemon or of the host left half written. To be called while nobody writes. */
  async tidy(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await removeUnfinishedFiles(this.#directory);
    for (const name of await readdir(this.#directory)) {
      const path = join(this.#directory, name);
      if (!isJson(await readFile(path, 'utf8'))) await unlink(path);
    }
  }

  async write(attachment: Attachment): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeFileAtomic(
      this.#path(attachment),
      JSON.stringify({ version, ...attachment } satisfies z.input<typeof recordSchema>),
      { durable: false },
    );
  }

  /** Every attachment of a sandbox: more than one if the network was renamed between two attempts. */
  async find(sandboxId: string): Promise<readonly Attachment[]> {
    const own = (await this.#names()).filter((name) => name.endsWith(`-${sandboxId}-${POD_INTERFACE}.json`)).toSorted();
    const read = await Promise.all(own.map((name) => this.#read(join(this.#directory, name))));
    return read.filter((each) => each.sandboxId === sandboxId);
  }

  /** Of all that it has attachments of. From the names: what is unreadable concerns its own sandbox only. */
  async sandboxIds(): Promise<ReadonlySet<string>> {
    const suffix = `-${POD_INTERFACE}.json`;
    const names = (await this.#names()).filter((name) => name.endsWith(suffix));
    return new Set(
      names.map((name) => name.slice(0, -suffix.length)).map((name) => name.slice(name.lastIndexOf('-') + 1)),
    );
  }

  async #names(): Promise<readonly string[]> {
    return readdir(this.#directory).catch((error: unknown) => {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    });
  }

  async remove(attachment: Attachment): Promise<void> {
    await unlink(this.#path(attachment)).catch((error: unknown) => {
      if (!hasCode(error, 'ENOENT')) throw error;
    });
  }

  async #read(path: string): Promise<Attachment> {
    try {
      return recordSchema.parse(JSON.parse(await readFile(path, 'utf8')));
    } catch (error) {
      throw new AppError('internal', `cached CNI result ${path} is unreadable`, { cause: error });
    }
  }

  #path({ configuration, sandboxId }: Attachment): string {
    return join(this.#directory, `${configuration.name}-${sandboxId}-${POD_INTERFACE}.json`);
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
