import { join } from 'node:path';
import type { BenchNode } from './bench-node.ts';
import { FirstLine } from './first-line.ts';
import { fullPools } from './full-pools.ts';
import { containerSecurity } from './kubelet-security.ts';
import { infoOfPodFrom, runSandbox, wholeCall } from './run-sandbox.ts';
import { Samples } from './samples.ts';
import { timed } from './timed.ts';
import { addSteps, containerInfo } from './verbose.ts';

const execsPerPod = 5;
const lineTimeoutMs = 60_000;
const script = 'echo here I am; exec sleep 100000';

export interface LifeSamples {
  readonly calls: Samples;
  readonly sandboxSteps: Samples;
  readonly containerSteps: Samples;
}

export function noSamples(): LifeSamples {
  return { calls: new Samples(), sandboxSteps: new Samples(), containerSteps: new Samples() };
}

/** Pods with one container each, one after the other, from RunPodSandbox on full pools to RemovePodSandbox. */
export async function podLives(node: BenchNode, runs: number, progress: (run: number) => void): Promise<LifeSamples> {
  const samples = noSamples();
  // The first one is not counted: it meets cold code in the daemon.
  for (let run = 0; run <= runs; run++) {
    progress(run);
    await fullPools(node.cri);
    await livePod(node, run === 0 ? noSamples() : samples);
  }
  return samples;
}

async function livePod(node: BenchNode, { calls, sandboxSteps, containerSteps }: LifeSamples): Promise<void> {
  const { cri, image } = node;
  const call = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const { value, ms } = await timed(work);
    calls.add(name, ms);
    return value;
  };
  const pod = await node.planPod();
  const logName = 'container.log';
  using firstLine = new FirstLine(pod.logDirectory, join(pod.logDirectory, logName), lineTimeoutMs);
  const containerConfig = {
    metadata: { name: 'container', attempt: 0 },
    image: { image },
    command: ['sh', '-c', script],
    log_path: logName,
    linux: containerSecurity,
  };

  const began = performance.now();
  const { id: podId, ms } = await runSandbox(node, 'pool', pod);
  calls.add('RunPodSandbox', ms);
  const { container_id: id } = await call('CreateContainer', () =>
    cri.call('CreateContainer', { pod_sandbox_id: podId, sandbox_config: pod.config, config: containerConfig }),
  );
  await call('StartContainer', () => cri.call('StartContainer', { container_id: id }));
  const { at } = await firstLine.seen;
  calls.add('first line', at - began);

  addSteps(sandboxSteps, await infoOfPodFrom(node, 'pool', podId));
  sandboxSteps.add(wholeCall, ms);
  addSteps(containerSteps, await containerInfo(cri, id));
  // The clone that replaces this one is made a second after the claim, and would be measured as well.
  await fullPools(cri);
  for (let time = 0; time < execsPerPod; time++) {
    const { exit_code: code } = await call('ExecSync', () =>
      cri.call('ExecSync', { container_id: id, cmd: ['true'], timeout: '60' }),
    );
    if (code !== 0) throw new Error(`exec of true in container ${id} ended with ${String(code)}`);
  }
  await call('StopPodSandbox', () => cri.call('StopPodSandbox', { pod_sandbox_id: podId }));
  await call('RemovePodSandbox', () => cri.call('RemovePodSandbox', { pod_sandbox_id: podId }));
}
