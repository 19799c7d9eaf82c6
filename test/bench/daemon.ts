import { setTimeout as delay } from 'node:timers/promises';
import type { BenchRun } from './bench-run.ts';
import { Crowd, inParallel } from './crowd.ts';
import { busyPercent, describeHost } from './host.ts';
import { listFigures, listTimes } from './list-times.ts';
import { assess, type Measurement } from './measurement.ts';
import { residentMB } from './memory.ts';
import { formatResults } from './report.ts';
import { writeResults } from './result-file.ts';
import { daemonInfo } from './verbose.ts';

export interface DaemonBench extends BenchRun {
  /** That run while the daemon is weighed. */
  readonly pods: number;
  /** That are listed; those beyond `pods` have ended. */
  readonly listed: number;
  readonly calls: number;
}

const startedAtOnce = 3;
const quietMs = 3_000;
/** A kubelet looks every second. */
const watchedSeconds = 20;
const targets = {
  memory: { sense: 'at most', value: 150 },
  list: { sense: 'at most', value: 20 },
} as const;
/** Each of these asks every guest. */
const statsCalls = 20;

/** What the daemon itself takes: memory with many pods, and time to list them. */
export async function benchDaemon(bench: DaemonBench): Promise<void> {
  bench.say('starting a node');
  await using crowd = await Crowd.start({ pool: 2 * startedAtOnce });
  try {
    await measure(crowd, bench);
  } catch (error) {
    if (!bench.signal.aborted) console.error(await crowd.dump());
    throw error;
  }
}

async function measure(crowd: Crowd, { pods, listed, calls, jsonFile, say, signal }: DaemonBench): Promise<void> {
  const { subject, socket } = crowd;
  // The first daemon after a change of the sources has also loaded what removes their types.
  await crowd.restart();
  await subject.rest();
  const busy = await busyPercent(quietMs);
  const emptyMB = await residentMB(crowd.daemonPid);
  say(`${String(pods)} pods (before them the host is ${busy.toFixed(0)} % busy)`);
  await inParallel(startedAtOnce, [...Array(pods).keys()], async (number) => {
    signal.throwIfAborted();
    if (number > 0 && number % 50 === 0) say(`  ${String(number)}`);
    await crowd.add();
  });
  await subject.rest();
  const startedMB = await residentMB(crowd.daemonPid);
  say('watching them as a kubelet does');
  const watchedMB = await watched(socket, crowd.daemonPid, signal);
  const statistics = await listTimes(
    socket,
    { names: ['ListContainerStats', 'ListPodSandboxStats'], calls: statsCalls },
    say,
    signal,
  );
  const afterStatsMB = await residentMB(crowd.daemonPid);
  say(`${String(listed - pods)} pods that have ended`);
  if (listed > pods) await crowd.restartWithEnded(listed - pods);
  await subject.rest();
  const lists = await listTimes(socket, { names: ['ListPodSandbox', 'ListContainers'], calls }, say, signal);

  const of = `${String(pods)} pods`;
  const memory = (name: string, samples: readonly number[]): Measurement => ({
    name: `daemon, ${name}`,
    unit: 'MB',
    samples,
  });
  const results: readonly Measurement[] = [
    memory('no pods', [emptyMB]),
    memory(`${of} just started`, [startedMB]),
    { ...memory(`${of}, watched by a kubelet`, watchedMB), target: targets.memory },
    memory(`${of}, after ${String(statsCalls)} rounds of statistics`, [afterStatsMB]),
    ...listFigures(of, statistics),
    ...listFigures(`${String(Math.max(pods, listed))} pods`, lists, targets.list),
    memory(`${String(Math.max(pods, listed))} pods, after the lists`, [await residentMB(crowd.daemonPid)]),
  ];
  console.log(`\n${formatResults(results)}`);
  const { accelerator, qemu, kernel } = await daemonInfo(subject.cri);
  await writeResults(jsonFile, {
    bench: 'daemon',
    at: new Date().toISOString(),
    ...{ pods, listed },
    host: { ...describeHost(), busyPercentBefore: busy, accelerator, qemu, guestKernel: kernel },
    results: results.map(assess),
  });
  say(`written to ${jsonFile}; removing the pods`);
}

/** What the daemon has in memory, second by second, while all is listed once a second. */
async function watched(socket: string, pid: number, signal: AbortSignal): Promise<readonly number[]> {
  const seen: number[] = [];
  for (let second = 0; second < watchedSeconds; second++) {
    await listTimes(socket, { names: ['ListPodSandbox', 'ListContainers'], calls: 0 }, () => undefined, signal);
    await delay(1_000, undefined, { signal });
    seen.push(await residentMB(pid));
  }
  return seen;
}
