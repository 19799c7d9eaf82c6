import { AppError } from '../platform/errors.ts';

export interface UidRange {
  readonly first: number;
  readonly count: number;
}

/**
 * Above what systemd gives to users, services and containers (it stops at 1879048191), below the
 * sign bit that some tools trip over.
 */
export const defaultUidRange: UidRange = { first: 1_879_048_192, count: 65_536 };

/**
 * One user and group id for each VM, so that a process which escapes one VM cannot touch the files or processes
 * of another. Ids are given out in a circle: what an old VM may have left behind is not met again soon.
 */
export class UidPool {
  readonly #range: UidRange;
  readonly #used = new Set<number>();
  #next: number;

  /** `startAt` counts from the start of the range; a random one keeps the daemons of one host apart. */
  constructor(range: UidRange = defaultUidRange, startAt = 0) {
    if (range.first <= 0 || range.count <= 0)
      throw new AppError('invalid', 'the range of user ids must not be empty nor hold 0');
    this.#range = range;
    this.#next = range.first + (startAt % range.count);
  }

  /** Marks the id of a VM that an earlier daemon started. Ids outside the range (it may have been changed) are fine. */
  reserve(uid: number): void {
    this.#used.add(uid);
  }

  acquire(): number {
    const end = this.#range.first + this.#range.count;
    for (let tried = 0; tried < this.#range.count; tried++) {
      const uid = this.#next;
      this.#next = uid + 1 < end ? uid + 1 : this.#range.first;
      if (this.#used.has(uid)) continue;
      this.#used.add(uid);
      return uid;
    }
    throw new AppError('exhausted', `all ${String(this.#range.count)} user ids for virtual machines are in use`);
  }

  release(uid: number): void {
    this.#used.delete(uid);
  }
}
