import { join } from 'node:path';
import { FirstLine } from './first-line.ts';
import { containerMarks } from './kubelet-marks.ts';
import { containerSecurity } from './kubelet-security.ts';
import type { StartedPod, Subject } from './subject.ts';
import { timed } from './timed.ts';

const lineTimeoutMs = 300_000;
const logName = 'container.log';

export interface SeenPod extends StartedPod {
  readonly container: string;
  /** When RunPodSandbox had answered, and when the first line was there, from the call on. */
  readonly runMs: number;
  readonly firstLineMs: number;
}

/** A pod with one container that writes a line and then sleeps, followed until the line is in its log file. */
export async function startSeenPod(subject: Subject, image: string): Promise<SeenPod> {
  const plan = await subject.planPod();
  using firstLine = new FirstLine(plan.logDirectory, join(plan.logDirectory, logName), lineTimeoutMs);
  const began = performance.now();
  const { value: pod, ms: runMs } = await timed(() => subject.runPod(plan));
  const container = await subject.createContainer(pod, {
    metadata: { name: 'container', attempt: 0 },
    image: { image },
    command: ['sh', '-c', 'echo here I am; exec sleep 100000'],
    log_path: logName,
    ...containerMarks('container', plan.config.metadata),
    linux: containerSecurity,
  });
  await subject.startContainer(container);
  const { at } = await firstLine.seen;
  return { ...pod, container, runMs, firstLineMs: at - began };
}
