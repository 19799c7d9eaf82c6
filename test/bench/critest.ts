import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCritest } from '../critest/run.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { logFolder } from '../harness/private-host.ts';
import type { BenchRun } from './bench-run.ts';
import { type Comparison, formatComparisons, judge } from './comparison.ts';
import { readBenchmark } from './critest-data.ts';
import { CritestPair } from './critest-pair.ts';
import { busyPercent, describeHost } from './host.ts';
import { writeResults } from './result-file.ts';
import { Samples } from './samples.ts';
import { daemonInfo } from './verbose.ts';

export interface CritestBench extends BenchRun {
  /** Of each benchmark and each runtime, in turn. */
  readonly rounds: number;
  /** Pods, containers, pulls and lists of a round. */
  readonly count: number;
}

/** Longest wait between two samples, after which critest panics. */
const patienceSeconds = 300;
const quietMs = 3_000;
/** It asserts that a pod comes up within five seconds, and measures nothing. */
const unmeasured = 'start a container from scratch';

interface Benchmark {
  readonly title: string;
  /** What critest calls its number of samples; the benchmarks with none are skipped. */
  readonly number: string;
  readonly files: readonly string[];
}

/** Of one image only: of others the daemon would have to be told where they are. */
const pulledImage = 'registry.k8s.io/e2e-test-images/nginx:1.14-2';

const benchmarks: readonly Benchmark[] = [
  { title: 'pods', number: 'podsNumber', files: ['pod_benchmark_data.json'] },
  { title: 'containers', number: 'containersNumber', files: ['container_benchmark_data.json'] },
  {
    title: 'images',
    number: 'imagesNumber',
    files: ['image_lifecycle_benchmark_data.json', 'image_listing_benchmark_data.json'],
  },
];

/** The benchmarks that critest brings, of kelyfos and containerd in turn on one host. Needs a private one. */
export async function benchCritest({ rounds, count, jsonFile, say, signal }: CritestBench): Promise<void> {
  say('starting both');
  await using pair = await CritestPair.start({ pool: count });
  const logs = logFolder('bench-critest');
  await rm(logs, { recursive: true, force: true });
  await mkdir(logs, { recursive: true });
  await pair.rest();
  const busy = await busyPercent(quietMs);
  const found = { kelyfos: new Samples(), containerd: new Samples() };
  try {
    for (let round = 0; round <= rounds; round++) {
      say(round === 0 ? 'once without counting' : `round ${String(round)} of ${String(rounds)}`);
      for (const benchmark of benchmarks) {
        for (const { name, endpoint } of pair.subjects) {
          signal.throwIfAborted();
          await pair.rest();
          const logName = `${name}-${benchmark.title}-${String(round)}`;
          const samples = await runBenchmark(benchmark, round === 0 ? 1 : count, { endpoint, logs, name: logName });
          if (round === 0) continue;
          for (const [operation, values] of samples) for (const value of values) found[name].add(operation, value);
        }
      }
    }
  } catch (error) {
    if (!signal.aborted) console.error(await pair.dump());
    throw error;
  }
  const comparisons = found.kelyfos
    .entries()
    .map(([name, own]): Comparison => ({ name, unit: 'ms', own, peer: found.containerd.of(name) }));
  console.log(`\n${formatComparisons(comparisons)}`);
  const { accelerator, qemu, kernel } = await daemonInfo(pair.own);
  await writeResults(jsonFile, {
    bench: 'critest',
    at: new Date().toISOString(),
    rounds,
    count,
    host: { ...describeHost(), busyPercentBefore: busy, accelerator, qemu, guestKernel: kernel },
    results: comparisons.map(judge),
  });
  say(`written to ${jsonFile}`);
}

async function runBenchmark(
  { number, files }: Benchmark,
  count: number,
  run: { readonly endpoint: string; readonly logs: string; readonly name: string },
): Promise<ReturnType<Samples['entries']>> {
  const folder = await freeFolder('critest-bench');
  try {
    const parameters = join(folder, 'parameters.yaml');
    // JSON is YAML.
    await writeFile(
      parameters,
      JSON.stringify({
        [number]: count,
        containerBenchmarkTimeoutSeconds: patienceSeconds,
        imageBenchmarkTimeoutSeconds: patienceSeconds,
        imagePullingBenchmarkImage: pulledImage,
      }),
    );
    const { specs } = await runCritest({
      ...run,
      verbose: false,
      flags: [
        '-benchmark',
        `-benchmarking-params-file=${parameters}`,
        `-benchmarking-output-dir=${folder}`,
        `-ginkgo.skip=${unmeasured}`,
      ],
    });
    const failed = specs.filter(({ outcome }) => outcome === 'failed');
    if (failed.length > 0)
      throw new Error(`critest, ${run.name}: ${failed.map(({ name, reason }) => `${name}: ${reason}`).join('\n')}`);
    const samples = await Promise.all(
      files.map(async (file) => readBenchmark(await readFile(join(folder, file), 'utf8')).entries()),
    );
    return samples.flat();
  } finally {
    await removeFolder(folder);
  }
}
