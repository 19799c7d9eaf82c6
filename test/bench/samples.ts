/** Samples by name, in the order in which the names came up. */
export class Samples {
  readonly #byName = new Map<string, number[]>();

  add(name: string, value: number): void {
    const samples = this.#byName.get(name);
    if (samples === undefined) this.#byName.set(name, [value]);
    else samples.push(value);
  }

  /** Empty when nothing was measured under that name. */
  of(name: string): readonly number[] {
    return this.#byName.get(name) ?? [];
  }

  entries(): readonly (readonly [name: string, samples: readonly number[]])[] {
    return [...this.#byName];
  }
}
