/** Pressure stall information, https://docs.kernel.org/accounting/psi.html. */
export interface PressureLine {
  /** Per cent of the last 10, 60 and 300 s. */
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
  readonly totalUs: bigint;
}

export interface Pressure {
  /** Time in which at least one task waited. */
  readonly some: PressureLine;
  /** Time in which all tasks waited; undefined where that means nothing. */
  readonly full?: PressureLine | undefined;
}

/** Of a file with lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. */
export function parsePressure(text: string | undefined): Pressure | undefined {
  const line = (name: string): PressureLine | undefined => {
    const pattern = new RegExp(`^${name} avg10=([\\d.]+) avg60=([\\d.]+) avg300=([\\d.]+) total=(\\d+)$`, 'm');
    const [, avg10, avg60, avg300, total] = pattern.exec(text ?? '') ?? [];
    if (total === undefined) return undefined;
    return { avg10: Number(avg10), avg60: Number(avg60), avg300: Number(avg300), totalUs: BigInt(total) };
  };
  const some = line('some');
  return some === undefined ? undefined : { some, full: line('full') };
}
