import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { Container, PodSandbox } from '../cri/gen/cri-types.ts';
import { writeFileAtomic } from '../platform/atomic-file.ts';
import { hasCode, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';

/** Our pods and containers in the host runtime, as its lists have them, marks included. */
export interface KnownPods {
  readonly sandboxes: readonly PodSandbox[];
  readonly containers: readonly Container[];
}

const item = z.looseObject({ id: z.string(), labels: z.record(z.string(), z.string()) });
const schema = z.object({ version: z.literal(1), sandboxes: z.array(item), containers: z.array(item) });

/**
 * What the host runtime said last, on disk: a daemon that starts while the other is down must not
 * tell the kubelet that those pods are gone.
 */
export class KnownPodsFile {
  readonly #path: string;
  readonly #log: Log;
  #written = '';
  #writing: Promise<void> = Promise.resolve();

  constructor(path: string, log: Log) {
    this.#path = path;
    this.#log = log;
  }

  /** Empty when there is none, or none that can be read. */
  async load(): Promise<KnownPods> {
    try {
      const text = await readFile(this.#path, 'utf8');
      const { sandboxes, containers } = schema.parse(JSON.parse(text));
      this.#written = text;
      // We wrote them ourselves: what the schema does not look at is as the API's loader made it.
      return { sandboxes, containers } as unknown as KnownPods;
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) {
        this.#log.warn({ path: this.#path, error: messageOf(error) }, 'the list of host pods cannot be read');
      }
      return { sandboxes: [], containers: [] };
    }
  }

  /** Writes when something is new. */
  save(pods: KnownPods): void {
    const text = JSON.stringify({ version: 1, ...pods });
    if (text === this.#written) return;
    this.#written = text;
    this.#writing = this.#writing.then(async () => {
      if (this.#written !== text) return;
      await writeFileAtomic(this.#path, text).catch((error: unknown) => {
        this.#written = '';
        this.#log.error({ path: this.#path, err: error }, 'the list of host pods cannot be written');
      });
    });
  }

  async settled(): Promise<void> {
    await this.#writing;
  }
}
