import type { BenchNode } from './bench-node.ts';
import { fullPools } from './full-pools.ts';
import { containerSecurity } from './kubelet-security.ts';
import { proportionalMB, settledMemory } from './memory.ts';
import { infoOfPodFrom, runSandbox } from './run-sandbox.ts';

const settling = { samples: 15, rangeMB: 4, intervalMs: 1_000, timeoutMs: 120_000 };

export interface IdlePods {
  readonly pods: number;
  /** What MemAvailable fell by, per pod. */
  readonly availableMBPerPod: number;
  /** What QEMU has for itself and its share of the template, per pod: nobody else on the host can disturb it. */
  readonly qemuMBPerPod: readonly number[];
  /** False when MemAvailable did not come to rest: the figure means little. */
  readonly settled: boolean;
}

/** Memory of pods with one sleeping container each. Pools are full before and after, and cancel out. */
export async function idlePods(node: BenchNode, pods: number, progress: (pod: number) => void): Promise<IdlePods> {
  await fullPools(node.cri);
  const before = await settledMemory(settling);
  const ids: string[] = [];
  const qemuPids: number[] = [];
  for (let number = 1; number <= pods; number++) {
    progress(number);
    const id = await sleepingPod(node);
    ids.push(id);
    qemuPids.push((await infoOfPodFrom(node, 'pool', id)).pid);
    await fullPools(node.cri);
  }
  const after = await settledMemory(settling);
  const qemuMBPerPod = await Promise.all(qemuPids.map(proportionalMB));
  for (const id of ids) await node.removePod(id);
  return {
    pods,
    availableMBPerPod: (before.availableMB - after.availableMB) / pods,
    qemuMBPerPod,
    settled: before.settled && after.settled,
  };
}

async function sleepingPod(node: BenchNode): Promise<string> {
  const pod = await node.planPod();
  const { id } = await runSandbox(node, 'pool', pod);
  const { container_id: container } = await node.cri.call('CreateContainer', {
    pod_sandbox_id: id,
    sandbox_config: pod.config,
    config: {
      metadata: { name: 'sleeper', attempt: 0 },
      image: { image: node.image },
      command: ['sleep', '100000'],
      log_path: 'sleeper.log',
      linux: containerSecurity,
    },
  });
  await node.cri.call('StartContainer', { container_id: container });
  return id;
}
