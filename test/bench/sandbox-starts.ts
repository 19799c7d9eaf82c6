import type { BenchNode, Origin } from './bench-node.ts';
import { fullPools } from './full-pools.ts';
import { infoOfPodFrom, runSandbox, wholeCall } from './run-sandbox.ts';
import { Samples } from './samples.ts';
import { addSteps } from './verbose.ts';

export interface StartSamples {
  readonly clone: Samples;
  readonly cold: Samples;
}

/**
 * RunPodSandbox and each of its steps without a pool, `runs` times each way. A clone and a boot in turn:
 * what else happens on the host meets both alike, as they are compared.
 */
export async function sandboxStarts(
  node: BenchNode,
  runs: number,
  progress: (run: number) => void,
): Promise<StartSamples> {
  const samples = { clone: new Samples(), cold: new Samples() };
  await fullPools(node.cri);
  // The first ones are not counted: they meet cold code in the daemon.
  for (let run = 0; run <= runs; run++) {
    progress(run);
    for (const origin of ['clone', 'cold'] as const) {
      await startOnce(node, origin, run === 0 ? new Samples() : samples[origin]);
    }
  }
  return samples;
}

async function startOnce(node: BenchNode, origin: Origin, samples: Samples): Promise<void> {
  const { id, ms } = await runSandbox(node, origin, await node.planPod());
  const info = await infoOfPodFrom(node, origin, id);
  await node.removePod(id);
  addSteps(samples, info);
  samples.add(wholeCall, ms);
}
