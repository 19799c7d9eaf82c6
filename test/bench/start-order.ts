/** What the trace of a RunPodSandbox tells about its turn. */
export interface StartedPod {
  /** In the order in which they were asked for. */
  readonly number: number;
  /** Since the epoch: when its turn came, and when it was answered. */
  readonly admittedMs: number;
  readonly endedMs: number;
}

/** Times of one trace are exact, but traces begin at whole milliseconds. */
const blurMs = 5;

/** Pods whose turn came after that of one that was asked for later. */
export function overtaken(pods: readonly StartedPod[]): readonly number[] {
  return pods
    .filter((pod) => pods.some((later) => later.number > pod.number && later.admittedMs < pod.admittedMs - blurMs))
    .map(({ number }) => number);
}

/** The most that were at work at one moment. */
export function mostAtOnce(pods: readonly StartedPod[]): number {
  const changes = pods
    .flatMap(({ admittedMs, endedMs }) => [
      { at: admittedMs + blurMs, change: 1 },
      { at: endedMs, change: -1 },
    ])
    .toSorted((a, b) => a.at - b.at || a.change - b.change);
  let [now, most] = [0, 0];
  for (const { change } of changes) most = Math.max(most, (now += change));
  return most;
}
