import { cpus } from 'node:os';
import type { BenchRun } from './bench-run.ts';
import { Crowd } from './crowd.ts';
import { busyPercent, describeHost } from './host.ts';
import { listFigures, listTimes } from './list-times.ts';
import { assess, type Measurement } from './measurement.ts';
import { availableMB, residentMB, settledMemory } from './memory.ts';
import { formatResults } from './report.ts';
import { writeResults } from './result-file.ts';
import { Samples } from './samples.ts';
import type { SeenPod } from './seen-pod.ts';
import { quantile } from './statistics.ts';
import { formatTable } from './table.ts';
import { timed } from './timed.ts';
import { addSteps, containerInfo, daemonInfo, podInfo } from './verbose.ts';

export interface DensityBench extends BenchRun {
  readonly pods: number;
  /** Looks at how busy the host is with them for so long. */
  readonly idleSeconds: number;
  /** As the keys of a VM class. */
  readonly rehearse: boolean;
  readonly translationBuffer?: string;
}

const pool = 2;
/** Of the pods at the beginning and at the end; the very first meets cold code. */
const ends = 10;
const uncounted = 1;
/** Of the pods in between. */
const atOnce = 2;
const listCalls = 100;
const settling = { samples: 15, rangeMB: 20, intervalMs: 1_000, timeoutMs: 60_000 };
/** More than `vm.memory_reserve`, below which pools are emptied and starts take longer for that alone. */
const floorMB = 1_500;

interface Reached {
  readonly pods: readonly SeenPod[];
  readonly first: Samples;
  readonly last: Samples;
}

/** As many pods as fit: whether the last starts as fast as the first, and what all of them take of the host. */
export async function benchDensity(bench: DensityBench): Promise<void> {
  bench.say('starting a node');
  await using crowd = await Crowd.start({ pool, vmClass: vmClass(bench) });
  try {
    await measure(crowd, bench);
  } catch (error) {
    if (!bench.signal.aborted) console.error(await crowd.dump());
    throw error;
  }
}

function vmClass({ rehearse, translationBuffer }: DensityBench): Readonly<Record<string, unknown>> {
  return { rehearse, ...(translationBuffer === undefined ? {} : { translation_buffer: translationBuffer }) };
}

async function measure(crowd: Crowd, bench: DensityBench): Promise<void> {
  const { pods: wanted, idleSeconds, jsonFile, say, signal } = bench;
  const { subject, socket } = crowd;
  await subject.rest();
  const busyBefore = await busyPercent(settling.samples * 1_000);
  const before = await settledMemory(settling);
  say(`${String(wanted)} pods (before them the host is ${busyBefore.toFixed(0)} % busy)`);
  const pods = await fill(crowd, bench);
  const reached: Reached = {
    pods,
    first: await stepsOf(crowd, pods.slice(uncounted, uncounted + ends)),
    last: await stepsOf(crowd, pods.slice(-ends)),
  };
  const after = await settledMemory(settling);
  say(`${String(pods.length)} pods at rest for ${String(idleSeconds)} s`);
  const busy = await busyPercent(idleSeconds * 1_000);
  const daemonMB = await residentMB(crowd.daemonPid);
  const lists = await listTimes(socket, { names: ['ListPodSandbox', 'ListContainers'], calls: listCalls }, say, signal);
  const figures = {
    memoryMB: (before.availableMB - after.availableMB) / pods.length,
    busy,
    cpuPerPod: ((busy - busyBefore) * cpus().length) / pods.length,
    daemonMB,
  };
  const { accelerator, qemu, kernel } = await daemonInfo(subject.cri);
  say('removing them');
  const removal = await timed(() => crowd.removeAll());

  const results: readonly Measurement[] = [
    ...startFigures(reached),
    {
      name: 'pods that run',
      unit: 'pods',
      samples: [pods.length],
      target: { sense: 'at least', value: wanted },
    },
    { name: 'memory of the host per pod', unit: 'MB', samples: [figures.memoryMB] },
    { name: 'daemon', unit: 'MB', samples: [figures.daemonMB] },
    { name: 'processors busy, all pods at rest', unit: '%', samples: [figures.busy] },
    { name: 'of one processor, per pod at rest', unit: '%', samples: [figures.cpuPerPod] },
    ...listFigures(`${String(pods.length)} pods`, lists),
    { name: 'removal of all', unit: 'ms', samples: [removal.ms] },
  ];
  console.log(`\n${stepTable(reached)}\n\n${formatResults(results)}`);
  if (!before.settled || !after.settled) console.log('MemAvailable did not come to rest: memory per pod may be wrong');
  await writeResults(jsonFile, {
    bench: 'density',
    vmClass: vmClass(bench),
    at: new Date().toISOString(),
    host: { ...describeHost(), busyPercentBefore: busyBefore, accelerator, qemu, guestKernel: kernel },
    results: results.map(assess),
    starts: pods.map(({ runMs, firstLineMs }) => ({ runMs, firstLineMs })),
  });
  say(`written to ${jsonFile}`);
}

/** Pods until there are enough of them or memory runs out. Those in the middle are not looked at, and not waited for. */
async function fill(crowd: Crowd, { pods, say, signal }: DensityBench): Promise<readonly SeenPod[]> {
  const before = await availableMB();
  const started: SeenPod[] = [];
  const alone = async (count: number): Promise<void> => {
    for (let number = 0; number < count && (await availableMB()) > floorMB; number++) {
      signal.throwIfAborted();
      await crowd.subject.rest();
      started.push(await crowd.add());
    }
  };
  await alone(Math.min(pods, uncounted + ends));
  // Includes the pool that is filled again, and so is rather too much.
  const perPodMB = (before - (await availableMB())) / started.length;
  let begun = started.length;
  const middle = async (): Promise<void> => {
    while (begun < pods - ends) {
      signal.throwIfAborted();
      const free = await availableMB();
      if (free < floorMB + (ends + atOnce) * perPodMB) return;
      begun += 1;
      started.push(await crowd.add());
      if (started.length % 25 === 0) say(`  ${String(started.length)}, ${free.toFixed(0)} MB left`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, middle));
  await alone(Math.min(ends, pods - started.length));
  if (started.length < uncounted + ends) throw new Error(`only ${String(started.length)} pods: too few to compare`);
  if (started.length < pods) say(`${String(started.length)} pods: the host has no memory for more`);
  return started;
}

function startFigures({ pods }: Reached): readonly Measurement[] {
  const figure = (name: string, of: (pod: SeenPod) => number): Measurement[] => {
    const first = pods.slice(uncounted, uncounted + ends).map(of);
    const last = pods.slice(-ends).map(of);
    return [
      { name: `${name}, the first ten`, unit: 'ms', samples: first },
      { name: `${name}, the last ten`, unit: 'ms', samples: last },
      {
        name: `${name}, last to first`,
        unit: 'times',
        samples: [quantile(last, 0.5) / quantile(first, 0.5)],
        target: { sense: 'at most', value: 1.5 },
      },
    ];
  };
  return [
    ...figure('RunPodSandbox', ({ runMs }) => runMs),
    ...figure('RunPodSandbox to first log line', ({ firstLineMs }) => firstLineMs),
  ];
}

async function stepsOf({ subject: { cri } }: Crowd, pods: readonly SeenPod[]): Promise<Samples> {
  const samples = new Samples();
  for (const { id, container } of pods) {
    addSteps(samples, await podInfo(cri, id));
    addSteps(samples, await containerInfo(cri, container));
  }
  return samples;
}

/** What takes longer when there are many: medians of each step. Not all pods have had the same. */
function stepTable({ first, last }: Reached): string {
  const median = (samples: readonly number[]): number | undefined =>
    samples.length === 0 ? undefined : quantile(samples, 0.5);
  const names = new Set([...first.entries(), ...last.entries()].map(([name]) => name));
  const rows = [...names].map((name) => {
    const [a, b] = [median(first.of(name)), median(last.of(name))];
    const more = a === undefined || b === undefined ? undefined : b - a;
    return [name, ...[a, b, more].map((ms) => ms?.toFixed(1) ?? '-')];
  });
  return formatTable(
    [
      { title: 'step, ms', align: 'left' },
      { title: 'first ten', align: 'right' },
      { title: 'last ten', align: 'right' },
      { title: 'more', align: 'right' },
    ],
    rows,
  );
}
