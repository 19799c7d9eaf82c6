import { type BenchNode, handlers, type Origin, type PodPlan } from './bench-node.ts';
import { timed } from './timed.ts';
import { podInfo, type PodInfo } from './verbose.ts';

/** A guest that boots under emulation, on a busy machine. */
const timeoutMs = 300_000;

/** Beside the samples of its steps: RunPodSandbox as its caller sees it. */
export const wholeCall = 'whole call';

export interface RunSandbox {
  readonly id: string;
  readonly ms: number;
}

/** RunPodSandbox with the handler whose VMs come from `origin`. */
export async function runSandbox(node: BenchNode, origin: Origin, pod: PodPlan): Promise<RunSandbox> {
  const request = { config: pod.config, runtime_handler: handlers[origin] };
  const { value, ms } = await timed(() => node.cri.call('RunPodSandbox', request, { timeoutMs }));
  return { id: value.pod_sandbox_id, ms };
}

/** A pod whose VM came from elsewhere is an error, not a sample. */
export async function infoOfPodFrom(node: BenchNode, origin: Origin, id: string): Promise<PodInfo> {
  const info = await podInfo(node.cri, id);
  if (info.vm.origin !== origin)
    throw new Error(`the VM of pod ${id} should come from "${origin}" but came from "${info.vm.origin}"`);
  return info;
}
