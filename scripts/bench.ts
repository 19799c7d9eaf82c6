/**
 * `npm run bench -- NAME`: measure, print tables with the targets beside the figures, and write
 * everything to a file. A missed target is told and is no failure.
 */
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import type { BenchRun } from '../test/bench/bench-run.ts';
import { benchCompare } from '../test/bench/compare.ts';
import { benchCritest } from '../test/bench/critest.ts';
import { benchDaemon } from '../test/bench/daemon.ts';
import { benchDensity } from '../test/bench/density.ts';
import { benchPlot } from '../test/bench/plot.ts';
import { benchPull } from '../test/bench/pull.ts';
import { benchResting } from '../test/bench/resting.ts';
import { benchStart } from '../test/bench/start.ts';
import { benchStorm } from '../test/bench/storm.ts';
import { inPrivateHost, isPrivateHost } from '../test/harness/private-host.ts';

const results = join(import.meta.dirname, '../test/bench/results');
const began = performance.now();

function say(text: string): void {
  console.error(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${text}`);
}

function atLeastOne(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError('accepted: a whole number from 1');
}

/** Lets a signal end a benchmark in good order. */
async function interruptible(bench: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const interrupted = new AbortController();
  const interrupt = (): void => {
    say('interrupted, cleaning up');
    interrupted.abort();
  };
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  try {
    await bench(interrupted.signal);
  } catch (error) {
    // Whatever went wrong after that, went wrong because of it.
    if (!interrupted.signal.aborted) throw error;
    process.exitCode = 130;
  }
}

/** Runs a benchmark with the options of its command. */
function measure<Bench extends BenchRun>(
  bench: (run: Bench) => Promise<void>,
): (options: Omit<Bench, keyof BenchRun> & { readonly json: string }) => Promise<void> {
  return async ({ json, ...own }) => {
    await interruptible((signal) => bench({ ...own, jsonFile: json, say, signal } as unknown as Bench));
  };
}

const critest = measure(benchCritest);

/** critest takes ports of the host. */
async function critestInPrivate(options: Parameters<typeof critest>[0]): Promise<void> {
  if (isPrivateHost()) await critest(options);
  else process.exitCode = (await inPrivateHost(import.meta.filename, process.argv.slice(2))).exitCode;
}

const program = new Command('bench');
program
  .command('compare')
  .description('beside containerd with runc, in turn on the same host')
  .option('--runs <number>', 'pods of each to start', atLeastOne, 50)
  .option('--json <file>', 'where the figures go', join(results, 'compare.json'))
  .action(measure(benchCompare));
program
  .command('pull')
  .description('pulls of images, beside containerd')
  .option('--runs <number>', 'pulls of each kind', atLeastOne, 10)
  .option('--json <file>', 'where the figures go', join(results, 'pull.json'))
  .action(measure(benchPull));
program
  .command('start')
  .description('how long a pod takes to start, and what it takes of the memory')
  .option('--runs <number>', 'pods to start in each way', atLeastOne, 20)
  .option('--pods <number>', 'idle pods to weigh', atLeastOne, 20)
  .option('--json <file>', 'where the figures go', join(results, 'start.json'))
  .action(measure(benchStart));
program
  .command('storm')
  .description('many pods at once: whether all start in time, in what order, and what it takes')
  .option('--pods <number>', 'pods to start at once', atLeastOne, 100)
  .option('--starts <number>', 'as vm.concurrent_starts; two for each processor otherwise', atLeastOne, 0)
  .option('--pool <number>', 'virtual machines that wait for them', atLeastOne, 2)
  .option('--json <file>', 'where the figures go', join(results, 'storm.json'))
  .action(measure(benchStorm));
program
  .command('plot')
  .description('draws what compare has found, and publishes its numbers')
  .option('--json <file>', 'what compare has written', join(results, 'compare.json'))
  .option('--folder <folder>', 'where the drawings go', join(import.meta.dirname, '../docs/benchmarks'))
  .action(async ({ json, folder }: { json: string; folder: string }) => {
    await benchPlot({ jsonFile: json, folder, say });
  });
program
  .command('critest')
  .description('the benchmarks of critest, of kelyfos and containerd in turn')
  .option('--rounds <number>', 'of each benchmark and runtime', atLeastOne, 5)
  .option('--count <number>', 'samples in each round', atLeastOne, 10)
  .option('--json <file>', 'where the figures go', join(results, 'critest.json'))
  .action(critestInPrivate);
program
  .command('daemon')
  .description('memory of the daemon with many pods, and how long its lists take')
  .option('--pods <number>', 'pods that run', atLeastOne, 100)
  .option('--listed <number>', 'pods that are listed; the others of them have ended', atLeastOne, 500)
  .option('--calls <number>', 'of each list', atLeastOne, 500)
  .option('--json <file>', 'where the figures go', join(results, 'daemon.json'))
  .action(measure(benchDaemon));
program
  .command('density')
  .description('as many pods as fit: whether the last starts as fast as the first')
  .option('--pods <number>', 'pods to start', atLeastOne, 300)
  .option('--idle-seconds <number>', 'how long to look at them at rest', atLeastOne, 60)
  .option('--no-rehearse', 'as the key of a VM class')
  .option('--translation-buffer <size>', 'as the key of a VM class, e.g. 32MiB')
  .option('--json <file>', 'where the figures go', join(results, 'density.json'))
  .action(measure(benchDensity));
program
  .command('resting')
  .description('what idle pods take of memory and processors, with rehearsed virtual machines and without')
  .option('--pods <number>', 'pods, each with a sleeping container', atLeastOne, 20)
  .option('--seconds <number>', 'how long to watch them', atLeastOne, 60)
  .option('--json <file>', 'where the figures go', join(results, 'resting.json'))
  .action(measure(benchResting));
await program.parseAsync();
