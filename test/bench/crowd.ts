import { TestNode } from '../harness/node.ts';
import { copyEndedPod } from './ended-pods.ts';
import { fullPools } from './full-pools.ts';
import { type SeenPod, startSeenPod } from './seen-pod.ts';
import { Subject } from './subject.ts';

export interface CrowdOptions {
  /** Virtual machines kept ready. */
  readonly pool: number;
  /** More of the class's configuration. */
  readonly vmClass?: Readonly<Record<string, unknown>>;
}

const endedAtOnce = 4;

/** A node for many pods, and the pods that are there. */
export class Crowd implements AsyncDisposable {
  readonly subject: Subject;
  readonly socket: string;
  readonly #node: TestNode;
  #pods: SeenPod[] = [];

  private constructor(node: TestNode) {
    const { cri, pid, scratch, socket } = node.daemon;
    this.#node = node;
    this.socket = socket;
    this.subject = new Subject('kelyfos', { cri, pid, scratch, rest: () => fullPools(cri) });
  }

  static async start({ pool, vmClass = {} }: CrowdOptions): Promise<Crowd> {
    // What it writes when it serves pods in earnest.
    const config = { log: { level: 'info' }, vm: { classes: { default: { ...vmClass, pool } } } };
    return new Crowd(await TestNode.start({ accelerator: 'auto', network: { wide: true }, config }));
  }

  async add(): Promise<SeenPod> {
    const pod = await startSeenPod(this.subject, this.#node.image);
    this.#pods.push(pod);
    return pod;
  }

  /** Of the daemon that runs now. */
  get daemonPid(): number {
    return this.#node.daemon.pid;
  }

  /** Another daemon, with the pods that there are. */
  async restart(): Promise<void> {
    await this.#stop();
    await this.#node.daemon.start();
  }

  /** Another daemon, which also knows pods that have ended and are not removed, as a kubelet leaves those of jobs for a while. */
  async restartWithEnded(count: number): Promise<void> {
    const { id } = await this.add();
    await this.subject.cri.call('StopPodSandbox', { pod_sandbox_id: id });
    await this.#stop();
    await copyEndedPod(this.#node.daemon.root, id, count - 1);
    await this.#node.daemon.start();
  }

  async #stop(): Promise<void> {
    const how = await this.#node.daemon.stop();
    if (how !== 'exit code 0') throw new Error(`the daemon ended with ${how}`);
  }

  async removeAll(): Promise<void> {
    const pods = this.#pods.toReversed();
    this.#pods = [];
    await inParallel(endedAtOnce, pods, (pod) => this.subject.removePod(pod));
  }

  /** For whoever has to find out why something failed. */
  async dump(): Promise<string> {
    return await this.#node.daemon.dump();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using _node = this.#node;
    await this.removeAll();
  }
}

/** Some at a time, in order; the first failure ends it. */
export async function inParallel<T>(
  atOnce: number,
  items: readonly T[],
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const rest = items.values();
  const worker = async (): Promise<void> => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
