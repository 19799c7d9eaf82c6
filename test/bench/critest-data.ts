import { z } from 'zod';
import { Samples } from './samples.ts';

const dataShape = z.object({
  operationsNames: z.array(z.string()),
  datapoints: z.array(z.object({ operationsDurationsNs: z.array(z.number()) })),
});

/** How long each operation of a benchmark of critest took, in milliseconds, from the file that it leaves. */
export function readBenchmark(json: string): Samples {
  const { operationsNames, datapoints } = dataShape.parse(JSON.parse(json));
  const samples = new Samples();
  for (const { operationsDurationsNs } of datapoints) {
    if (operationsDurationsNs.length !== operationsNames.length)
      throw new Error(
        `${String(operationsDurationsNs.length)} durations of ${String(operationsNames.length)} operations`,
      );
    operationsNames.forEach((name, at) => {
      samples.add(name, (operationsDurationsNs[at] ?? 0) / 1e6);
    });
  }
  return samples;
}
