import type { BenchRun } from './bench-run.ts';
import { type Compared, comparedLives, comparedStorms, figures } from './compared-lives.ts';
import { comparedOutput, outputFigure } from './compared-output.ts';
import { comparedPulls, pullFigures } from './compared-pulls.ts';
import { type Comparison, formatComparisons, judge } from './comparison.ts';
import { busyPercent, describeHost } from './host.ts';
import { BenchPair } from './pair.ts';
import { writeResults } from './result-file.ts';
import { daemonInfo } from './verbose.ts';

export interface CompareBench extends BenchRun {
  readonly runs: number;
}

const podsAtOnce = 10;
const quietMs = 3_000;
/** Of what takes long: a part of the runs. */
const seldom = (runs: number): number => Math.max(1, Math.round(runs / 10));

/** kelyfos beside containerd with runc: the same calls, in turn, on one host. */
export async function benchCompare({ runs, jsonFile, say, signal }: CompareBench): Promise<void> {
  say('starting both');
  await using pair = await BenchPair.start({ pool: podsAtOnce, warm: true });
  const begin = async (what: string): Promise<(run: number) => void> => {
    await pair.own.rest();
    const busy = await busyPercent(quietMs);
    say(`${what} (before it the host is ${busy.toFixed(0)} % busy)`);
    return (run) => {
      signal.throwIfAborted();
      if (run > 0 && run % 10 === 0) say(`  ${String(run)}`);
    };
  };
  const comparisons: Comparison[] = [];
  const take = (
    name: string,
    compared: Compared,
    target: Comparison['target'],
    unit: Comparison['unit'] = 'ms',
  ): void => {
    comparisons.push({ name, unit, own: compared.own.of(name), peer: compared.peer.of(name), target });
  };
  const atMost = (ratio: number): Comparison['target'] => ({ sense: 'at most', ratio });
  try {
    const lives = await comparedLives(pair, runs, await begin(`${String(runs)} pods of each, one after the other`));
    take(figures.run, lives, atMost(0.8));
    take(figures.firstLine, lives, atMost(0.7));
    // The peer has nothing of the kind: the same samples of it.
    comparisons.push({
      name: figures.warmFirstLine,
      unit: 'ms',
      own: lives.own.of(figures.warmFirstLine),
      peer: lives.peer.of(figures.firstLine),
      target: atMost(0.7),
    });
    const storms = { count: podsAtOnce, runs: seldom(runs) };
    take(
      figures.atOnce,
      await comparedStorms(
        pair,
        storms,
        await begin(`${String(podsAtOnce)} pods at once, ${String(storms.runs)} times`),
      ),
      atMost(0.9),
    );
    take(figures.exec, lives, atMost(0.5));
    take(figures.end, lives, atMost(0.5));
    const pulls = await comparedPulls(pair, seldom(runs), await begin(`pulls, ${String(seldom(runs))} times`));
    take(pullFigures.big, pulls, atMost(1));
    const output = await comparedOutput(pair, seldom(runs), await begin(`output, ${String(seldom(runs))} times`));
    take(outputFigure, output, { sense: 'at least', ratio: 0.5 }, 'MB/s');
  } catch (error) {
    if (!signal.aborted) console.error(await pair.dump());
    throw error;
  }
  console.log(`\n${formatComparisons(comparisons)}`);
  const { accelerator, qemu, kernel } = await daemonInfo(pair.own.cri);
  const document = {
    bench: 'compare',
    at: new Date().toISOString(),
    host: { ...describeHost(), accelerator, qemu, guestKernel: kernel },
    results: comparisons.map(judge),
  };
  await writeResults(jsonFile, document);
  say(`written to ${jsonFile}; npm run bench -- plot draws it`);
}
