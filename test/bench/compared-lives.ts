import type { BenchPair } from './pair.ts';
import { Samples } from './samples.ts';
import { startSeenPod } from './seen-pod.ts';
import type { Subject } from './subject.ts';
import { timed } from './timed.ts';

const execsPerPod = 5;

/** Samples of both by the same names. */
export interface Compared {
  readonly own: Samples;
  readonly peer: Samples;
}

export const figures = {
  run: 'RunPodSandbox',
  firstLine: 'RunPodSandbox to first log line',
  warmFirstLine: 'first log line, image held ready',
  atOnce: 'first log line, 10 pods at once, the last one',
  exec: 'ExecSync true',
  end: 'StopPodSandbox + RemovePodSandbox',
} as const;

async function livePod(subject: Subject, image: string, samples: Samples): Promise<void> {
  await subject.rest();
  const pod = await startSeenPod(subject, image);
  samples.add(figures.run, pod.runMs);
  samples.add(figures.firstLine, pod.firstLineMs);
  // A machine that takes the pod's place in the pool would be measured as well.
  await subject.rest();
  for (let time = 0; time < execsPerPod; time++) {
    const request = { container_id: pod.container, cmd: ['true'], timeout: '60' };
    const { value, ms } = await timed(() => subject.cri.call('ExecSync', request));
    if (value.exit_code !== 0) throw new Error(`${subject.name}: exec of true ended with ${String(value.exit_code)}`);
    samples.add(figures.exec, ms);
  }
  samples.add(figures.end, (await timed(() => subject.removePod(pod))).ms);
}

/** A pod of a class that holds its image ready, up to its first line. */
async function warmPod(subject: Subject, image: string, samples: Samples): Promise<void> {
  await subject.rest();
  const pod = await startSeenPod(subject, image);
  samples.add(figures.warmFirstLine, pod.firstLineMs);
  await subject.removePod(pod);
}

/** Whole lives of pods, one after the other, of both in turn. The first of each is not counted: it meets cold code. */
export async function comparedLives(pair: BenchPair, runs: number, progress: (run: number) => void): Promise<Compared> {
  const compared = { own: new Samples(), peer: new Samples() };
  for (let run = 0; run <= runs; run++) {
    progress(run);
    const counted = run > 0 ? compared : { own: new Samples(), peer: new Samples() };
    await livePod(pair.own, pair.image, counted.own);
    await warmPod(pair.warm, pair.image, counted.own);
    await livePod(pair.peer, pair.image, counted.peer);
  }
  return compared;
}

/** `count` pods at once, several times: how long until the last one has written its line. */
export async function comparedStorms(
  pair: BenchPair,
  options: { readonly count: number; readonly runs: number },
  progress: (run: number) => void,
): Promise<Compared> {
  const compared = { own: new Samples(), peer: new Samples() };
  for (let run = 0; run <= options.runs; run++) {
    progress(run);
    for (const [subject, samples] of [
      [pair.own, compared.own],
      [pair.peer, compared.peer],
    ] as const) {
      await subject.rest();
      const pods = await Promise.all(Array.from({ length: options.count }, () => startSeenPod(subject, pair.image)));
      if (run > 0) samples.add(figures.atOnce, Math.max(...pods.map(({ firstLineMs }) => firstLineMs)));
      await Promise.all(pods.map((pod) => subject.removePod(pod)));
    }
  }
  return compared;
}
