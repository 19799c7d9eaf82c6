import { generateKeyPairSync } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import { stringify } from 'yaml';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { startProcess, type StartedProcess } from '../harness/started-process.ts';
import { nodeAddress } from './node-address.ts';

export const kubernetesFolder = join(import.meta.dirname, '../../libexec/kubernetes');

const token = 'test';
const etcdUrl = 'http://127.0.0.1:2379';
const apiServer = 'https://127.0.0.1:6443';
const startTimeoutMs = 120_000;
const kubectlTimeoutMs = 120_000;

export interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

/** etcd and kube-apiserver: pods are bound to the node by hand, so nothing else is needed. For a private host: its ports are fixed. */
export class ControlPlane implements AsyncDisposable {
  /** For kubelet and kubectl; may do everything. */
  readonly kubeconfig: string;
  readonly #folder: string;
  readonly #processes: StartedProcess[] = [];

  private constructor(folder: string) {
    this.#folder = folder;
    this.kubeconfig = join(folder, 'kubeconfig.yaml');
  }

  static async start(): Promise<ControlPlane> {
    const plane = new ControlPlane(await freeFolder('control-plane'));
    try {
      await plane.#writeFiles();
      await plane.#startEtcd();
      await plane.#startApiServer();
    } catch (error) {
      await plane[Symbol.asyncDispose]();
      throw error;
    }
    return plane;
  }

  async #writeFiles(): Promise<void> {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    await writeFile(join(this.#folder, 'sa.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    await writeFile(join(this.#folder, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
    await writeFile(join(this.#folder, 'tokens.csv'), `${token},test,test,system:masters\n`);
    const named = { cluster: 'test', user: 'test' };
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: apiServer, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'test', user: { token } }],
      contexts: [{ name: 'test', context: named }],
      'current-context': 'test',
    };
    await writeFile(this.kubeconfig, stringify(config));
  }

  async #start(program: string, args: readonly string[]): Promise<StartedProcess> {
    const logFile = join(this.#folder, `${program}.log`);
    const process = await startProcess(join(kubernetesFolder, program), args, { logFile });
    this.#processes.push(process);
    return process;
  }

  async #startEtcd(): Promise<void> {
    const peers = 'http://127.0.0.1:2380';
    await this.#start('etcd', [
      `--data-dir=${join(this.#folder, 'etcd')}`,
      `--listen-client-urls=${etcdUrl}`,
      `--advertise-client-urls=${etcdUrl}`,
      `--listen-peer-urls=${peers}`,
      `--initial-advertise-peer-urls=${peers}`,
      `--initial-cluster=default=${peers}`,
      // It lives as long as a test.
      '--unsafe-no-fsync',
    ]);
  }

  async #startApiServer(): Promise<void> {
    const certificates = join(this.#folder, 'certificates');
    await mkdir(certificates);
    const process = await this.#start('kube-apiserver', [
      `--etcd-servers=${etcdUrl}`,
      '--bind-address=127.0.0.1',
      `--advertise-address=${nodeAddress}`,
      '--endpoint-reconciler-type=none',
      `--cert-dir=${certificates}`,
      `--service-account-key-file=${join(this.#folder, 'sa.pub')}`,
      `--service-account-signing-key-file=${join(this.#folder, 'sa.key')}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      '--service-cluster-ip-range=198.51.100.0/24',
      `--token-auth-file=${join(this.#folder, 'tokens.csv')}`,
      // Its name means nothing to the resolver.
      '--kubelet-preferred-address-types=InternalIP',
      '--authorization-mode=AlwaysAllow',
      // There is no controller that would make the default service accounts.
      '--disable-admission-plugins=ServiceAccount',
      '--allow-privileged',
    ]);
    for (const deadline = Date.now() + startTimeoutMs; ;) {
      const ready = await this.tryKubectl(['get', '--raw=/readyz']);
      if (ready.exitCode === 0) return;
      if (process.exit !== undefined || Date.now() > deadline)
        throw new Error(`kube-apiserver is not ready: ${ready.stderr}\n${(await process.log()).slice(-4000)}`);
      await delay(100);
    }
  }

  #arguments(args: readonly string[]): readonly string[] {
    return ['--kubeconfig', this.kubeconfig, '--cache-dir', join(this.#folder, 'kubectl'), ...args];
  }

  /** Runs kubectl; its standard output. Rejects when it fails. */
  async kubectl(args: readonly string[], input?: string): Promise<string> {
    return (await this.#run(args, input, true)).stdout;
  }

  /** Runs kubectl, also when it fails. */
  async tryKubectl(args: readonly string[], input?: string): Promise<Ended> {
    const { stdout, stderr, exitCode = -1 } = await this.#run(args, input, false);
    return { stdout, stderr, exitCode };
  }

  async #run(
    args: readonly string[],
    input: string | undefined,
    reject: boolean,
  ): Promise<{ readonly stdout: string; readonly stderr: string; readonly exitCode?: number }> {
    return execa(join(kubernetesFolder, 'kubectl'), this.#arguments(args), {
      timeout: kubectlTimeoutMs,
      reject,
      stripFinalNewline: false,
      ...(input === undefined ? { stdin: 'ignore' } : { input }),
    });
  }

  /** A kubectl that goes on running. */
  async startKubectl(name: string, args: readonly string[]): Promise<StartedProcess> {
    const logFile = join(this.#folder, `${name}.log`);
    return startProcess(join(kubernetesFolder, 'kubectl'), this.#arguments(args), { logFile });
  }

  async logs(): Promise<string> {
    return readFile(join(this.#folder, 'kube-apiserver.log'), 'utf8').catch(() => '');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#processes.toReversed()) await process.stop();
    await removeFolder(this.#folder);
  }
}
