/** The client's side of one Output call: the opening message, then acknowledgements, newest only. */
export class AckQueue implements AsyncIterable<{ readonly id?: string; readonly acknowledged: bigint }> {
  readonly #id: string;
  #next: bigint | undefined;
  #ended = false;
  #wake = Promise.withResolvers<undefined>();

  constructor(id: string, acknowledged: bigint) {
    this.#id = id;
    this.#next = acknowledged;
  }

  push(acknowledged: bigint): void {
    this.#next = acknowledged;
    this.#wake.resolve(undefined);
  }

  end(): void {
    this.#ended = true;
    this.#wake.resolve(undefined);
  }

  async *[Symbol.asyncIterator](): AsyncIterator<{ readonly id?: string; readonly acknowledged: bigint }> {
    let first = true;
    for (;;) {
      if (this.#next !== undefined) {
        const acknowledged = this.#next;
        this.#next = undefined;
        yield first ? { id: this.#id, acknowledged } : { acknowledged };
        first = false;
      } else if (this.#ended) {
        return;
      } else {
        this.#wake = Promise.withResolvers<undefined>();
        await this.#wake.promise;
      }
    }
  }
}
