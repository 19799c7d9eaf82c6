import type { BenchNode, Origin } from './bench-node.ts';
import { fullPools } from './full-pools.ts';
import { infoOfPodFrom, runSandbox, wholeCall } from './run-sandbox.ts';
import { Samples } from './samples.ts';

/** RunPodSandbox and each of its steps, `runs` times one after the other, without containers. */
export async function sandboxStarts(
  node: BenchNode,
  origin: Exclude<Origin, 'pool'>,
  runs: number,
  progress: (run: number) => void,
): Promise<Samples> {
  const samples = new Samples();
  await fullPools(node.cri);
  // The first one is not counted: it may have to make a template, and meets cold code in the daemon.
  for (let run = 0; run <= runs; run++) {
    progress(run);
    const { id, ms } = await runSandbox(node, origin, await node.planPod());
    const { startup } = await infoOfPodFrom(node, origin, id);
    await node.removePod(id);
    if (run === 0) continue;
    for (const step of startup) samples.add(step.name, step.ms);
    samples.add(wholeCall, ms);
  }
  return samples;
}
