import { BenchNode } from './bench-node.ts';
import type { BenchRun } from './bench-run.ts';
import { fullPools } from './full-pools.ts';
import { busyPercent, describeHost } from './host.ts';
import { idlePods, type IdlePods } from './idle-pods.ts';
import { assess, type Measurement, type Target } from './measurement.ts';
import { podLives, type LifeSamples } from './pod-lives.ts';
import { formatResults, formatSteps } from './report.ts';
import { writeResults } from './result-file.ts';
import { wholeCall } from './run-sandbox.ts';
import type { Samples } from './samples.ts';
import { sandboxStarts, type StartSamples } from './sandbox-starts.ts';
import { quantile, summarize } from './statistics.ts';
import { daemonInfo } from './verbose.ts';

export interface StartBench extends BenchRun {
  readonly runs: number;
  readonly pods: number;
}

const quietMs = 3_000;
/** Above it, somebody else is at work and the figures are not ours alone. */
const quietPercent = 10;

interface Phases extends StartSamples {
  readonly life: LifeSamples;
  readonly memory: IdlePods;
}

const atMost = (value: number): Target => ({ sense: 'at most', value });

function measurements({ life, memory, clone, cold }: Phases): readonly Measurement[] {
  const call = (name: string): Pick<Measurement, 'unit' | 'samples'> => ({ unit: 'ms', samples: life.calls.of(name) });
  const boots = cold.of('vm.boot');
  const clones = clone.of('vm.clone');
  const ratio = quantile(boots, 0.5) / quantile(clones, 0.5);
  return [
    { name: 'cold boot, until the agent answers', unit: 'ms', samples: boots },
    { name: 'clone, until the agent answers', unit: 'ms', samples: clones },
    { name: 'clone faster than cold boot', unit: 'times', samples: [ratio], target: { sense: 'at least', value: 20 } },
    { name: 'RunPodSandbox, cold boot', unit: 'ms', samples: cold.of(wholeCall) },
    { name: 'RunPodSandbox, clone', unit: 'ms', samples: clone.of(wholeCall) },
    { name: 'RunPodSandbox, pool hit', ...call('RunPodSandbox'), target: atMost(200) },
    { name: 'CreateContainer', ...call('CreateContainer') },
    { name: 'StartContainer', ...call('StartContainer') },
    { name: 'RunPodSandbox to first log line, pool hit', ...call('first line'), target: atMost(400) },
    { name: 'ExecSync true', ...call('ExecSync'), target: atMost(60) },
    { name: 'StopPodSandbox', ...call('StopPodSandbox') },
    { name: 'RemovePodSandbox', ...call('RemovePodSandbox') },
    {
      name: `memory per pod, MemAvailable over ${String(memory.pods)}`,
      unit: 'MB',
      samples: [memory.availableMBPerPod],
      target: atMost(70),
    },
    { name: 'memory per pod, PSS of its QEMU', unit: 'MB', samples: memory.qemuMBPerPod },
  ];
}

/** Where the time of each way to start went. */
function stepTables({ life, clone, cold }: Phases): readonly (readonly [title: string, steps: Samples])[] {
  return [
    ['RunPodSandbox, pool hit', life.sandboxSteps],
    ['CreateContainer, StartContainer', life.containerSteps],
    ['RunPodSandbox, clone', clone],
    ['RunPodSandbox, cold boot', cold],
  ];
}

/** How long pods take to start, and what they take of the host's memory. */
export async function benchStart(bench: StartBench): Promise<void> {
  bench.say('starting a node');
  await using node = await BenchNode.start();
  try {
    await measure(node, bench);
  } catch (error) {
    if (!bench.signal.aborted) console.error(await node.dump());
    throw error;
  }
}

async function measure(node: BenchNode, { runs, pods, jsonFile, say, signal }: StartBench): Promise<void> {
  const busy: number[] = [];
  const begin = async (what: string): Promise<(run: number) => void> => {
    await fullPools(node.cri);
    const percent = await busyPercent(quietMs);
    busy.push(percent);
    say(`${what} (before it the host is ${percent.toFixed(0)} % busy)`);
    return (run) => {
      signal.throwIfAborted();
      if (run > 0 && run % 5 === 0) say(`  ${String(run)}`);
    };
  };

  const host = describeHost();
  const phases: Phases = {
    life: await podLives(node, runs, await begin(`${String(runs)} pods one after the other, VMs from the pool`)),
    memory: await idlePods(node, pods, await begin(`memory of ${String(pods)} idle pods`)),
    ...(await sandboxStarts(
      node,
      runs,
      await begin(`${String(runs)} sandboxes cloned, ${String(runs)} booted, in turn`),
    )),
  };
  const { accelerator, qemu, kernel } = await daemonInfo(node.cri);
  print(phases, busy);
  console.log(
    `${accelerator ?? '?'}, QEMU ${qemu ?? '?'}, guest kernel ${kernel ?? '?'}, ${String(host.cpus)} processors (${host.cpuModel})`,
  );
  const document = {
    bench: 'start',
    at: new Date().toISOString(),
    host: { ...host, busyPercentBeforePhases: busy, accelerator, qemu, guestKernel: kernel },
    memorySettled: phases.memory.settled,
    results: measurements(phases).map(assess),
    steps: stepTables(phases).map(([title, steps]) => ({
      title,
      steps: steps.entries().map(([name, samples]) => ({ name, unit: 'ms', ...summarize(samples) })),
    })),
  };
  await writeResults(jsonFile, document);
  say(`written to ${jsonFile}`);
}

function print(phases: Phases, busy: readonly number[]): void {
  for (const [title, steps] of stepTables(phases)) console.log(`\n${formatSteps(title, steps)}`);
  console.log(`\n${formatResults(measurements(phases))}`);
  if (!phases.memory.settled) console.log('MemAvailable did not come to rest: memory per pod may be wrong');
  const most = Math.max(...busy);
  if (most > quietPercent) {
    console.log(`the host was up to ${most.toFixed(0)} % busy with something else: measure again when it is quiet`);
  }
}
