interface Sample {
  readonly at: bigint;
  readonly usageNs: bigint;
  readonly nanoCores: bigint | undefined;
}

/** Over less time than this a rate says more about the clock than about the CPU. */
const shortestNs = 100_000_000n;

/** Turns CPU times into rates, between one question and the next. Forgets what nobody else knows any more. */
export class CpuRates<Subject extends object> {
  readonly #samples = new WeakMap<Subject, Sample>();

  /** Thousand millionths of a core; undefined until there are two samples. Times in nanoseconds. */
  next(subject: Subject, at: bigint, usageNs: bigint): bigint | undefined {
    const last = this.#samples.get(subject);
    if (last !== undefined && at - last.at < shortestNs) return last.nanoCores;
    const nanoCores =
      last === undefined || usageNs < last.usageNs
        ? undefined
        : ((usageNs - last.usageNs) * 1_000_000_000n) / (at - last.at);
    this.#samples.set(subject, { at, usageNs, nanoCores });
    return nanoCores;
  }
}
