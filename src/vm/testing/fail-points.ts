/** Counts named steps of fakes and fails the one a test has chosen. */
export class FailPoints {
  readonly passed: string[] = [];
  #failAt: number | undefined;

  /** The step of that number, counted from 0, will reject once. */
  failAt(step: number | undefined): void {
    this.passed.length = 0;
    this.#failAt = step;
  }

  async step(name: string): Promise<void> {
    const number = this.passed.push(name) - 1;
    if (number !== this.#failAt) return;
    this.#failAt = undefined;
    throw new Error(`injected failure at ${name}`);
  }
}
