import { readFile } from 'node:fs/promises';
import { quantile } from '../bench/statistics.ts';
import { parseKilobytes } from '../bench/memory.ts';
import { leaksSince, snapshotHost } from '../harness/leaks.ts';
import { TestNode } from '../harness/node.ts';

export interface SoakOptions {
  readonly pods: number;
  readonly parallel: number;
  /** Pods until the daemon's code and caches are warm; growth counts from there. */
  readonly warmUp: number;
  readonly say: (text: string) => void;
}

export interface SoakResult {
  /** Resident memory of the daemon, MB of a million bytes: medians over `window` pods. */
  readonly warmMB: number;
  readonly endMB: number;
  readonly secondsPerPod: number;
  /** One line each. */
  readonly leaks: readonly string[];
}

/** Single readings depend on when memory was last collected. */
const window = 20;

/**
 * Whole lives of pods, several at a time: made, exec'ed, stopped, removed. The daemon must not grow by
 * it, and nothing must be left. Fails with the first call that does.
 */
export async function soak({ pods, parallel, warmUp, say }: SoakOptions): Promise<SoakResult> {
  const before = await snapshotHost();
  const residentMB: number[] = [];
  const began = performance.now();
  {
    await using node = await TestNode.start({ config: { log: { level: 'info' } } });
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < pods) {
        next += 1;
        await livePod(node);
        residentMB.push(parseKilobytes(await readFile(`/proc/${String(node.daemon.pid)}/status`, 'utf8'), 'VmRSS'));
        if (residentMB.length % 10 === 0)
          say(`${String(residentMB.length)} pods, the daemon has ${(residentMB.at(-1) ?? 0).toFixed(1)} MB`);
      }
    };
    const outcomes = await Promise.allSettled(Array.from({ length: parallel }, worker));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }
  return {
    warmMB: quantile(residentMB.slice(warmUp, warmUp + window), 0.5),
    endMB: quantile(residentMB.slice(-window), 0.5),
    secondsPerPod: (performance.now() - began) / 1000 / pods,
    leaks: await leaksSince(before),
  };
}

async function livePod(node: TestNode): Promise<void> {
  const pod = await node.runPod();
  const id = await node.startContainer(pod, { command: ['sh', '-c', 'echo up; exec sleep 1000'] });
  const said = await node.sh(id, 'echo $((6 * 7))');
  if (said !== '42') throw new Error(`exec in container ${id} said "${said}"`);
  await node.removePod(pod);
}
