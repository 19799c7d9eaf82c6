import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stat } from 'node:fs/promises';
import type { Compared } from './compared-lives.ts';
import { containerSecurity } from './kubelet-security.ts';
import type { BenchPair } from './pair.ts';
import { Samples } from './samples.ts';
import type { Subject } from './subject.ts';

export const outputFigure = 'container stdout to log file';

const megabytes = 64;

/** In the image of both: a megabyte in lines as long as those of a busy server's log. */
export const outputFile = { path: '/lines', content: `${'x'.repeat(99)}\n`.repeat(10_000) };

const pollMs = 10;
const timeoutMs = 300_000;

/** Megabytes of output per second, from StartContainer until the container has EXITED: then all of it is in the file. */
async function outputRate(subject: Subject, image: string): Promise<number> {
  await subject.rest();
  const plan = await subject.planPod();
  const pod = await subject.runPod(plan);
  const bytes = megabytes * 1_000_000;
  const container = await subject.createContainer(pod, {
    metadata: { name: 'container', attempt: 0 },
    image: { image },
    command: ['sh', '-c', `for time in $(seq ${String(megabytes)}); do cat ${outputFile.path}; done`],
    log_path: 'container.log',
    linux: containerSecurity,
  });
  await subject.rest();
  const began = performance.now();
  await subject.startContainer(container);
  for (;;) {
    const { status } = await subject.cri.call('ContainerStatus', { container_id: container });
    if (status?.state === 'CONTAINER_EXITED') break;
    if (performance.now() - began > timeoutMs)
      throw new Error(`${subject.name}: output takes longer than ${String(timeoutMs)} ms`);
    await delay(pollMs);
  }
  const seconds = (performance.now() - began) / 1000;
  const { size } = await stat(join(plan.logDirectory, 'container.log'));
  if (size < bytes) throw new Error(`${subject.name}: the log has ${String(size)} bytes of ${String(bytes)}`);
  await subject.removePod(pod);
  return megabytes / seconds;
}

/** How fast output gets from a container into its log file, of both in turn. */
export async function comparedOutput(
  pair: BenchPair,
  runs: number,
  progress: (run: number) => void,
): Promise<Compared> {
  const compared = { own: new Samples(), peer: new Samples() };
  for (let run = 0; run <= runs; run++) {
    progress(run);
    for (const [subject, samples] of [
      [pair.own, compared.own],
      [pair.peer, compared.peer],
    ] as const) {
      const rate = await outputRate(subject, pair.image);
      if (run > 0) samples.add(outputFigure, rate);
    }
  }
  return compared;
}
