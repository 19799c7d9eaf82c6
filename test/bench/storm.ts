import { join } from 'node:path';
import { TestNode } from '../harness/node.ts';
import type { BenchRun } from './bench-run.ts';
import { fullPools } from './full-pools.ts';
import { busyPercent, describeHost } from './host.ts';
import { containerSecurity } from './kubelet-security.ts';
import { assess, type Measurement } from './measurement.ts';
import { lowestAvailable, residentMB } from './memory.ts';
import { formatResults } from './report.ts';
import { writeResults } from './result-file.ts';
import { mostAtOnce, overtaken, type StartedPod } from './start-order.ts';
import { timed } from './timed.ts';
import { podInfo, startsState } from './verbose.ts';

export interface StormBench extends BenchRun {
  readonly pods: number;
  /** As in `vm.concurrent_starts`. */
  readonly starts: number;
  /** Virtual machines that wait for them. */
  readonly pool: number;
}

/** The kubelet's: twice its runtimeRequestTimeout of two minutes. */
const deadlineMs = 240_000;
const quietMs = 3_000;
const removedAtOnce = 4;

interface Started extends StartedPod {
  readonly id: string;
  readonly callMs: number;
  /** Of RunPodSandbox without the wait for its turn. */
  readonly workMs: number;
}

/** Many pods at once: whether all come up in time, in what order, and what it takes of the host. */
export async function benchStorm({ pods, starts, pool, jsonFile, say, signal }: StormBench): Promise<void> {
  say('starting a node');
  await using node = await TestNode.start({
    accelerator: 'auto',
    config: { log: { level: 'info' }, vm: { concurrent_starts: starts, classes: { default: { pool } } } },
  });
  const { cri } = node.daemon;
  await fullPools(cri);
  const busy = await busyPercent(quietMs);
  const { limit } = await startsState(cri);
  say(
    `${String(pods)} pods at once, ${String(limit)} of them at work (before it the host is ${busy.toFixed(0)} % busy)`,
  );

  const memory = lowestAvailable();
  const beforeMB = await residentMB(node.daemon.pid);
  const ids: string[] = [];
  const storm = await timed(() =>
    Promise.allSettled(
      Array.from({ length: pods }, async (_, number) => {
        signal.throwIfAborted();
        const started = await startPod(node, number);
        ids.push(started.id);
        return started;
      }),
    ),
  );
  const { lowestMB, firstMB } = await memory.end();
  const daemonMB = await residentMB(node.daemon.pid);
  const started = storm.value.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  const failures = storm.value.flatMap((outcome) => (outcome.status === 'rejected' ? [String(outcome.reason)] : []));
  for (const failure of new Set(failures)) say(`failed: ${failure}`);
  say('removing them');
  while (ids.length > 0) {
    await Promise.all(ids.splice(0, removedAtOnce).map((id) => node.removePod({ id, config: {} })));
  }
  signal.throwIfAborted();

  const results: readonly Measurement[] = [
    { name: 'pods that started', unit: 'pods', samples: [started.length], target: { sense: 'at least', value: pods } },
    { name: 'until the last one', unit: 'ms', samples: [storm.ms], target: { sense: 'at most', value: deadlineMs } },
    { name: 'RunPodSandbox, the wait included', unit: 'ms', samples: started.map(({ callMs }) => callMs) },
    { name: 'RunPodSandbox, from its turn on', unit: 'ms', samples: started.map(({ workMs }) => workMs) },
    {
      name: 'at work at once',
      unit: 'pods',
      samples: [mostAtOnce(started)],
      target: { sense: 'at most', value: limit },
    },
    { name: 'overtaken', unit: 'pods', samples: [overtaken(started).length], target: { sense: 'at most', value: 0 } },
    { name: 'memory of the host per pod, at most', unit: 'MB', samples: [(firstMB - lowestMB) / pods] },
    { name: 'memory that the daemon grew by', unit: 'MB', samples: [daemonMB - beforeMB] },
  ].filter(({ samples }) => samples.length > 0) as readonly Measurement[];
  console.log(`\n${formatResults(results)}`);
  const host = { ...describeHost(), busyPercentBefore: busy };
  const document = {
    bench: 'storm',
    at: new Date().toISOString(),
    pods,
    limit,
    pool,
    host,
    failures,
    results: results.map(assess),
  };
  await writeResults(jsonFile, document);
  say(`written to ${jsonFile}`);
}

async function startPod({ daemon: { cri, scratch } }: TestNode, number: number): Promise<Started> {
  const name = `storm-${String(number)}`;
  const config = {
    metadata: { name, uid: name, namespace: 'bench', attempt: 0 },
    hostname: name,
    log_directory: join(scratch, 'logs', name),
    linux: containerSecurity,
  };
  const { value, ms } = await timed(() => cri.call('RunPodSandbox', { config }, { timeoutMs: deadlineMs }));
  const id = value.pod_sandbox_id;
  const [request] = (await podInfo(cri, id)).startup;
  if (request === undefined) throw new Error(`pod ${id} has no trace`);
  const waitedMs = request.steps.find((step) => step.name === 'wait for turn')?.ms ?? 0;
  const startedMs = Number(request.startedAt) / 1e6;
  return {
    ...{ id, number, callMs: ms, workMs: request.ms - waitedMs },
    admittedMs: startedMs + waitedMs,
    endedMs: startedMs + request.ms,
  };
}
