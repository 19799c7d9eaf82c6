import { setTimeout as delay } from 'node:timers/promises';
import type { BenchRun } from './bench-run.ts';
import { Crowd } from './crowd.ts';
import { busyPercent, describeHost } from './host.ts';
import { assess, type Measurement } from './measurement.ts';
import { settledMemory } from './memory.ts';
import { processorSeconds } from './processor-time.ts';
import { type QemuMemory, qemuMemory } from './qemu-memory.ts';
import { formatResults } from './report.ts';
import { writeResults } from './result-file.ts';
import type { SeenPod } from './seen-pod.ts';
import { daemonInfo, podInfo } from './verbose.ts';

export interface RestingBench extends BenchRun {
  readonly pods: number;
  /** How long they are watched at rest. */
  readonly seconds: number;
}

const settling = { samples: 15, rangeMB: 4, intervalMs: 1_000, timeoutMs: 60_000 };
const quietMs = 3_000;
/** The first meets cold code in the daemon. */
const uncounted = 1;

/** What is configured for the class of the pods. */
interface Way {
  readonly name: string;
  readonly vmClass: Readonly<Record<string, unknown>>;
  readonly memoryTargetMB: number;
}

const ways: readonly Way[] = [
  { name: 'rehearsed', vmClass: {}, memoryTargetMB: 55 },
  { name: 'not rehearsed', vmClass: { rehearse: false }, memoryTargetMB: 25 },
  // The least that is of use: such a pod's start no longer fits.
  {
    name: 'not rehearsed, 16 MiB',
    vmClass: { rehearse: false, translation_buffer: '16MiB' },
    memoryTargetMB: 25,
  },
];

interface Rested {
  readonly way: Way;
  readonly started: readonly SeenPod[];
  readonly availableMBPerPod: number;
  /** False when MemAvailable did not come to rest: the figure means little. */
  readonly settled: boolean;
  readonly qemus: readonly QemuMemory[];
  /** Per cent of one processor, of each QEMU and of the daemon. */
  readonly qemuPercent: readonly number[];
  readonly daemonPercent: number;
  readonly busyBefore: number;
  readonly info: Readonly<Record<string, string>>;
}

/** What pods with one sleeping container take of memory and processors, with rehearsed clones and without. */
export async function benchResting(bench: RestingBench): Promise<void> {
  const rested: Rested[] = [];
  for (const way of ways) {
    bench.say(`starting a node; pods: ${way.name}`);
    await using crowd = await Crowd.start({ pool: 1, vmClass: way.vmClass });
    try {
      rested.push(await rest(crowd, way, bench));
    } catch (error) {
      if (!bench.signal.aborted) console.error(await crowd.dump());
      throw error;
    }
  }
  const results = rested.flatMap(measurements);
  console.log(`\n${formatResults(results)}`);
  if (rested.some(({ settled }) => !settled))
    console.log('MemAvailable did not come to rest: memory per pod may be wrong');
  const { accelerator, qemu, kernel } = rested[0]?.info ?? {};
  await writeResults(bench.jsonFile, {
    bench: 'resting',
    at: new Date().toISOString(),
    host: {
      ...describeHost(),
      busyPercentBefore: rested.map(({ busyBefore }) => busyBefore),
      accelerator,
      qemu,
      guestKernel: kernel,
    },
    pods: bench.pods,
    seconds: bench.seconds,
    ways: rested.map(({ way, settled }) => ({ ...way, settled })),
    results: results.map(assess),
  });
  bench.say(`written to ${bench.jsonFile}`);
}

async function rest(crowd: Crowd, way: Way, { pods, seconds, say, signal }: RestingBench): Promise<Rested> {
  const { subject } = crowd;
  // The pool is full before and after, and cancels out.
  await subject.rest();
  const busyBefore = await busyPercent(quietMs);
  const before = await settledMemory(settling);
  say(`${String(pods)} pods, one after the other (before them the host is ${busyBefore.toFixed(0)} % busy)`);
  const started: SeenPod[] = [];
  while (started.length < pods) {
    signal.throwIfAborted();
    started.push(await crowd.add());
    await subject.rest();
    if (started.length % 10 === 0) say(`  ${String(started.length)}`);
  }
  const after = await settledMemory(settling);
  const pids = await Promise.all(started.map(async ({ id }) => (await podInfo(subject.cri, id)).pid));
  const qemus = await Promise.all(pids.map(qemuMemory));
  say(`at rest for ${String(seconds)} s`);
  const percents = await usedPercent([subject.pid, ...pids], seconds, signal);
  const [daemonPercent = Number.NaN, ...qemuPercent] = percents;
  const info = await daemonInfo(subject.cri);
  say('removing them');
  return {
    way,
    started,
    availableMBPerPod: (before.availableMB - after.availableMB) / pods,
    settled: before.settled && after.settled,
    ...{ qemus, qemuPercent, daemonPercent, busyBefore, info },
  };
}

/** What each process uses of one processor over some time, in per cent. */
async function usedPercent(pids: readonly number[], seconds: number, signal: AbortSignal): Promise<readonly number[]> {
  const read = async (): Promise<readonly { readonly used: number; readonly at: number }[]> =>
    Promise.all(pids.map(async (pid) => ({ used: await processorSeconds(pid), at: performance.now() / 1_000 })));
  const before = await read();
  await delay(seconds * 1_000, undefined, { signal });
  const after = await read();
  return before.map((from, index) => {
    const to = after[index] ?? from;
    return (100 * (to.used - from.used)) / (to.at - from.at);
  });
}

function measurements({ way, started, qemus, ...rested }: Rested): readonly Measurement[] {
  const named = (name: string): string => `${way.name}: ${name}`;
  const counted = started.length > uncounted ? started.slice(uncounted) : started;
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const inQemu = mean(qemus.map((it) => it.guestMB + it.translatedMB + it.otherMB + it.pageTablesMB));
  return [
    {
      name: named('memory per pod'),
      unit: 'MB',
      samples: [rested.availableMBPerPod],
      target: { sense: 'at most', value: way.memoryTargetMB },
    },
    { name: named('translated code'), unit: 'MB', samples: qemus.map((it) => it.translatedMB) },
    { name: named('pages of the guest'), unit: 'MB', samples: qemus.map((it) => it.guestMB) },
    { name: named('QEMU itself'), unit: 'MB', samples: qemus.map((it) => it.otherMB) },
    { name: named('page tables of QEMU'), unit: 'MB', samples: qemus.map((it) => it.pageTablesMB) },
    { name: named('the host beside QEMU'), unit: 'MB', samples: [rested.availableMBPerPod - inQemu] },
    // Clocks of processes tick in hundredths of a second: the mean is finer than the median.
    {
      name: named('processor per pod, QEMU'),
      unit: '%',
      samples: [mean(rested.qemuPercent)],
      target: { sense: 'at most', value: 0.2 },
    },
    { name: named('processor per pod, daemon'), unit: '%', samples: [rested.daemonPercent / started.length] },
    { name: named('RunPodSandbox'), unit: 'ms', samples: counted.map(({ runMs }) => runMs) },
    { name: named('RunPodSandbox to first log line'), unit: 'ms', samples: counted.map((pod) => pod.firstLineMs) },
  ];
}
