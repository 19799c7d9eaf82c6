import { messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { HostMemory } from './host-memory.ts';

export interface MemoryWatchOptions {
  /** Below it there is too little memory. */
  readonly reserveBytes: number;
  readonly read: () => Promise<HostMemory>;
  readonly log: Log;
}

/** Some task has waited for memory in so much of the last ten seconds: the host is reclaiming in earnest. */
const stalledPercent = 10;
/** To end the shortage there must be more than what began it: idle VMs that were removed must not come right back. */
const easedFactor = 1.25;
const easedPercent = 2;

/** Whether the host is short of memory. */
export class MemoryWatch {
  readonly #options: MemoryWatchOptions;
  #shortage: string | undefined;
  #failed = false;

  constructor(options: MemoryWatchOptions) {
    this.#options = options;
  }

  /** Why it is short of memory; undefined when it is not. As of the last look. */
  get shortage(): string | undefined {
    return this.#shortage;
  }

  async look(): Promise<void> {
    const { reserveBytes, read, log } = this.#options;
    let memory: HostMemory;
    try {
      memory = await read();
      this.#failed = false;
    } catch (error) {
      // Without knowing, pools stay as they are.
      if (!this.#failed) log.warn({ err: error }, `cannot tell how much memory is left: ${messageOf(error)}`);
      this.#failed = true;
      return;
    }
    const before = this.#shortage;
    const least = before === undefined ? reserveBytes : reserveBytes * easedFactor;
    const most = before === undefined ? stalledPercent : easedPercent;
    this.#shortage = shortageOf(memory, least, most);
    if (before === undefined && this.#shortage !== undefined)
      log.warn(`memory is short, pools shrink: ${this.#shortage}`);
    if (before !== undefined && this.#shortage === undefined) log.info('memory is no longer short, pools fill again');
  }
}

function shortageOf({ availableBytes, stalledPercent: stalled }: HostMemory, least: number, most: number) {
  if (availableBytes < least) return `${mebibytes(availableBytes)} available, ${mebibytes(least)} wanted`;
  return stalled > most ? `tasks waited for it in ${stalled.toFixed(0)} % of the last 10 s` : undefined;
}

function mebibytes(bytes: number): string {
  return `${String(Math.round(bytes / 1024 ** 2))} MiB`;
}
