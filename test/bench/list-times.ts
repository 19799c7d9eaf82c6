import { ListCaller, type ListName } from './list-caller.ts';
import type { Measurement, Target } from './measurement.ts';
import { Samples } from './samples.ts';
import { quantile } from './statistics.ts';
import { timed } from './timed.ts';

export interface Lists {
  readonly names: readonly ListName[];
  readonly calls: number;
}

/** How long lists take, in turn, one at a time. The first of each is not counted. */
export async function listTimes(
  socket: string,
  { names, calls }: Lists,
  say: (text: string) => void,
  signal: AbortSignal,
): Promise<Samples> {
  using caller = new ListCaller(socket);
  const samples = new Samples();
  for (let call = 0; call <= calls; call++) {
    signal.throwIfAborted();
    for (const name of names) {
      const { value: bytes, ms } = await timed(() => caller.call(name));
      if (call > 0) samples.add(name, ms);
      else say(`  ${name}: ${String(Math.round(bytes / 1000))} kB`);
    }
  }
  return samples;
}

/** Medians and the slowest of a hundred, which the target is for. */
export function listFigures(title: string, samples: Samples, target?: Target): readonly Measurement[] {
  return samples.entries().flatMap(([name, times]): Measurement[] => [
    { name: `${name}, ${title}`, unit: 'ms', samples: times },
    {
      ...{ name: `${name}, ${title}, p99`, unit: 'ms', samples: [quantile(times, 0.99)] },
      ...(target === undefined ? {} : { target }),
    },
  ]);
}
