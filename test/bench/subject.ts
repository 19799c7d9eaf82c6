import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { CriClient } from '../../src/cri/client.ts';
import type * as cri from '../../src/cri/gen/cri-types.ts';
import type { Outgoing } from '../../src/cri/call.ts';
import type { PodPlan } from './bench-node.ts';
import { podMarks } from './kubelet-marks.ts';
import { podSecurity } from './kubelet-security.ts';

/** Under emulation, with many pods at once. */
const callTimeoutMs = 300_000;

export interface StartedPod {
  readonly id: string;
  readonly plan: PodPlan;
}

/** One of the runtimes that are compared: the same calls with the same images and the same pod network. */
export class Subject {
  readonly name: string;
  readonly cri: CriClient;
  /** Process id of the daemon. */
  readonly pid: number;
  readonly #handler: string;
  readonly #scratch: string;
  readonly #rest: () => Promise<void>;
  #names = 0;

  /** `rest` returns when nothing is being prepared in the background. */
  constructor(
    name: string,
    parts: { cri: CriClient; pid: number; handler?: string; scratch: string; rest: () => Promise<void> },
  ) {
    this.name = name;
    this.cri = parts.cri;
    this.pid = parts.pid;
    this.#handler = parts.handler ?? '';
    this.#scratch = parts.scratch;
    this.#rest = parts.rest;
  }

  async rest(): Promise<void> {
    await this.#rest();
  }

  async planPod(): Promise<PodPlan> {
    this.#names += 1;
    const name = `bench-${[this.#handler, this.#names].filter((part) => part !== '').join('-')}`;
    const logDirectory = join(this.#scratch, 'logs', name);
    await mkdir(logDirectory, { recursive: true });
    const metadata = { name, uid: name, namespace: 'bench', attempt: 0 } as const;
    const marks = podMarks(metadata);
    return {
      name,
      logDirectory,
      config: { metadata, hostname: name, log_directory: logDirectory, ...marks, linux: podSecurity },
    };
  }

  async runPod(plan: PodPlan): Promise<StartedPod> {
    const { pod_sandbox_id: id } = await this.cri.call(
      'RunPodSandbox',
      { config: plan.config, runtime_handler: this.#handler },
      { timeoutMs: callTimeoutMs },
    );
    return { id, plan };
  }

  async createContainer({ id, plan }: StartedPod, config: Outgoing<cri.ContainerConfig>): Promise<string> {
    const request = { pod_sandbox_id: id, sandbox_config: plan.config, config };
    const created = await this.cri.call('CreateContainer', request, { timeoutMs: callTimeoutMs });
    return created.container_id;
  }

  async startContainer(id: string): Promise<void> {
    await this.cri.call('StartContainer', { container_id: id }, { timeoutMs: callTimeoutMs });
  }

  async removePod({ id }: StartedPod): Promise<void> {
    await this.cri.call('StopPodSandbox', { pod_sandbox_id: id }, { timeoutMs: callTimeoutMs });
    await this.cri.call('RemovePodSandbox', { pod_sandbox_id: id }, { timeoutMs: callTimeoutMs });
  }
}
