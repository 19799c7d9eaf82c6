import type { BenchRun } from './bench-run.ts';
import { comparedPulls, pullFigures } from './compared-pulls.ts';
import { type Comparison, formatComparisons, judge } from './comparison.ts';
import { busyPercent, describeHost } from './host.ts';
import { BenchPair } from './pair.ts';
import { writeResults } from './result-file.ts';

export interface PullBench extends BenchRun {
  readonly runs: number;
}

const quietMs = 3_000;

/** Pulls alone, beside containerd: nothing is made for pods meanwhile. */
export async function benchPull({ runs, jsonFile, say, signal }: PullBench): Promise<void> {
  say('starting both');
  // One machine in the pool tells when the template is made: that takes a processor for seconds.
  await using pair = await BenchPair.start({ pool: 1 });
  await pair.own.rest();
  const busy = await busyPercent(quietMs);
  say(`pulls, ${String(runs)} times (before it the host is ${busy.toFixed(0)} % busy)`);
  const { own, peer } = await comparedPulls(pair, runs, () => {
    signal.throwIfAborted();
  });
  const comparisons = Object.values(pullFigures).map((name): Comparison => ({
    name,
    unit: 'ms',
    own: own.of(name),
    peer: peer.of(name),
    target: { sense: 'at most', ratio: 1 },
  }));
  console.log(`\n${formatComparisons(comparisons)}`);
  const document = { bench: 'pull', at: new Date().toISOString(), host: describeHost() };
  await writeResults(jsonFile, { ...document, results: comparisons.map(judge) });
  say(`written to ${jsonFile}`);
}
