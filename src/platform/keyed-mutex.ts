/** Mutual exclusion per key, first come first served. Keys cost nothing while nobody holds them. */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs `work` alone among all work of the same key. Not reentrant. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const turn = Promise.withResolvers<undefined>();
    const tail = before.then(() => turn.promise);
    this.#tails.set(key, tail);
    await before;
    try {
      return await work();
    } finally {
      turn.resolve(undefined);
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}
