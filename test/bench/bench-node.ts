import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { CriClient } from '../../src/cri/client.ts';
import { TestNode } from '../harness/node.ts';
import { podSecurity } from './kubelet-security.ts';

/** Where a pod's VM comes from, by the handler that it is run with. */
export const handlers = { pool: 'kelyfos', clone: 'clone', cold: 'cold' } as const;

export type Origin = keyof typeof handlers;

const config = {
  // What it writes when it serves pods in earnest.
  log: { level: 'info' },
  vm: {
    classes: {
      default: { pool: 2 },
      // Of the same shape as the default class, and so a clone of the same template.
      clone: { pool: 0 },
      cold: { pool: 0, template: false },
    },
  },
  handlers: { clone: { class: 'clone' }, cold: { class: 'cold' } },
};

export interface PodPlan {
  readonly name: string;
  /** Exists, so that it can be watched. */
  readonly logDirectory: string;
  readonly config: {
    readonly metadata: { readonly name: string; readonly uid: string; readonly namespace: string; readonly attempt: 0 };
    readonly hostname: string;
    readonly log_directory: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly linux: typeof podSecurity;
  };
}

/** A node of its own: daemon, registry, pod network. */
export class BenchNode implements AsyncDisposable {
  readonly cri: CriClient;
  readonly image: string;
  readonly #node: TestNode;
  #names = 0;

  private constructor(node: TestNode) {
    this.#node = node;
    this.cri = node.daemon.cri;
    this.image = node.image;
  }

  static async start(): Promise<BenchNode> {
    return new BenchNode(await TestNode.start({ accelerator: 'auto', config }));
  }

  async planPod(): Promise<PodPlan> {
    this.#names += 1;
    const name = `bench-${String(this.#names)}`;
    const logDirectory = join(this.#node.daemon.scratch, 'logs', name);
    await mkdir(logDirectory, { recursive: true });
    const metadata = { name, uid: name, namespace: 'bench', attempt: 0 } as const;
    return {
      name,
      logDirectory,
      config: { metadata, hostname: name, log_directory: logDirectory, linux: podSecurity },
    };
  }

  async removePod(id: string): Promise<void> {
    await this.cri.call('StopPodSandbox', { pod_sandbox_id: id });
    await this.cri.call('RemovePodSandbox', { pod_sandbox_id: id });
  }

  /** For whoever has to find out why something failed. */
  async dump(): Promise<string> {
    return await this.#node.daemon.dump();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#node[Symbol.asyncDispose]();
  }
}
