import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { unmountBelow } from '../../src/platform/unmount.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { logFolder } from '../harness/private-host.ts';
import { startProcess, type StartedProcess } from '../harness/started-process.ts';
import { removeKubeletGroups } from './cgroups.ts';
import { kubernetesFolder } from './control-plane.ts';
import { nodeAddress } from './node-address.ts';

export const nodeName = 'node';

const readOnlyPort = 10255;
const startTimeoutMs = 60_000;

export interface KubeletOptions {
  readonly kubeconfig: string;
  /** unix:///path of the runtime's socket. */
  readonly runtime: string;
  /** More of KubeletConfiguration. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** A kubelet with a folder of its own, for a private host: its ports are fixed. */
export class TestKubelet implements AsyncDisposable {
  readonly folder: string;
  readonly #options: KubeletOptions;
  #process: StartedProcess | undefined;

  private constructor(folder: string, options: KubeletOptions) {
    this.folder = folder;
    this.#options = options;
  }

  /** Started, and its node is there. */
  static async start(options: KubeletOptions): Promise<TestKubelet> {
    const kubelet = new TestKubelet(await freeFolder('kubelet'), options);
    try {
      await kubelet.#writeConfig();
      await kubelet.start();
    } catch (error) {
      await kubelet[Symbol.asyncDispose]();
      throw error;
    }
    return kubelet;
  }

  async #writeConfig(): Promise<void> {
    await mkdir(join(this.folder, 'manifests'));
    const config = {
      apiVersion: 'kubelet.config.k8s.io/v1beta1',
      kind: 'KubeletConfiguration',
      address: nodeAddress,
      readOnlyPort,
      containerRuntimeEndpoint: this.#options.runtime,
      staticPodPath: join(this.folder, 'manifests'),
      podLogsDir: join(this.folder, 'pod-logs'),
      authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
      authorization: { mode: 'AlwaysAllow' },
      failSwapOn: false,
      failCgroupV1: false,
      enforceNodeAllocatable: ['pods'],
      // Static pods are looked for that often.
      fileCheckFrequency: '2s',
      // How soon ConfigMaps and the like follow.
      syncFrequency: '5s',
      nodeStatusUpdateFrequency: '2s',
      // The disk of the test machine may be as full as it is.
      evictionHard: { 'memory.available': '100Mi' },
      imageGCHighThresholdPercent: 100,
      ...this.#options.config,
    };
    await writeFile(join(this.folder, 'config.yaml'), stringify(config));
  }

  get #logFile(): string {
    return join(this.folder, 'kubelet.log');
  }

  /** Again, after `stop`. */
  async start(): Promise<void> {
    const process = await startProcess(
      join(kubernetesFolder, 'kubelet'),
      [
        `--config=${join(this.folder, 'config.yaml')}`,
        `--kubeconfig=${this.#options.kubeconfig}`,
        `--root-dir=${join(this.folder, 'root')}`,
        `--cert-dir=${join(this.folder, 'certificates')}`,
        `--hostname-override=${nodeName}`,
        `--node-ip=${nodeAddress}`,
        '--v=2',
      ],
      { logFile: this.#logFile },
    );
    this.#process = process;
    for (const deadline = Date.now() + startTimeoutMs; ;) {
      const healthy = await fetch(`http://${nodeAddress}:${String(readOnlyPort)}/pods`).then(
        (response) => response.ok,
        () => false,
      );
      if (healthy) return;
      if (process.exit !== undefined || Date.now() > deadline)
        throw new Error(`the kubelet does not answer:\n${(await this.log()).slice(-6000)}`);
      await delay(100);
    }
  }

  get runs(): boolean {
    return this.#process !== undefined && this.#process.exit === undefined;
  }

  /** Pods stay. */
  async stop(): Promise<void> {
    await this.#process?.stop();
  }

  async log(): Promise<string> {
    return readFile(this.#logFile, 'utf8').catch(() => '');
  }

  /** An answer of its read-only port. */
  async get(path: string): Promise<unknown> {
    const response = await fetch(`http://${nodeAddress}:${String(readOnlyPort)}${path}`);
    if (!response.ok) throw new Error(`kubelet: ${path}: ${String(response.status)} ${await response.text()}`);
    return response.json();
  }

  /** A static pod. */
  async writeManifest(name: string, manifest: unknown): Promise<void> {
    await writeFile(join(this.folder, 'manifests', `${name}.yaml`), stringify(manifest));
  }

  async removeManifest(name: string): Promise<void> {
    await rm(join(this.folder, 'manifests', `${name}.yaml`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    // Volumes of pods that were never cleared away.
    await mkdir(logFolder('kubelet'), { recursive: true });
    await writeFile(join(logFolder('kubelet'), 'kubelet.log'), await this.log());
    await unmountBelow(this.folder);
    await removeKubeletGroups();
    await removeFolder(this.folder);
  }
}
