import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type * as cri from '../../src/cri/gen/cri-types.ts';
import type { Outgoing } from '../../src/cri/call.ts';
import { buildBusyboxImage } from './busybox-image.ts';
import { TestNetwork, type TestNetworkOptions } from './cni.ts';
import { TestDaemon, type DaemonOptions } from './daemon.ts';
import { freeFolder, removeFolder } from './free-folder.ts';
import { TestRegistry } from './registry.ts';

export interface NodeOptions extends Omit<DaemonOptions, 'registry' | 'network'> {
  readonly network?: TestNetworkOptions;
  /** The registry is also where images of docker.io are fetched from. */
  readonly dockerHub?: boolean;
}

export interface PodOptions {
  readonly name?: string;
  readonly handler?: string;
  readonly config?: Outgoing<cri.PodSandboxConfig>;
}

export interface Pod {
  readonly id: string;
  readonly config: Outgoing<cri.PodSandboxConfig>;
}

export interface PodVmInfo {
  readonly id: string;
  readonly origin: 'pool' | 'clone' | 'cold';
  readonly machineId: string;
  readonly networkNamespace: string;
}

export interface RunContainer {
  readonly name?: string;
  readonly command?: readonly string[];
  readonly config?: Outgoing<cri.ContainerConfig>;
}

const imageName = 'kelyfos/busybox:test';

/** A daemon with everything round it that a node has: a registry with a busybox image, already pulled, and a pod network. */
export class TestNode implements AsyncDisposable {
  readonly daemon: TestDaemon;
  readonly registry: TestRegistry;
  readonly network: TestNetwork;
  readonly image: string;
  readonly #images: string;
  #names = 0;

  private constructor(daemon: TestDaemon, registry: TestRegistry, network: TestNetwork, image: string, images: string) {
    this.daemon = daemon;
    this.registry = registry;
    this.network = network;
    this.image = image;
    this.#images = images;
  }

  static async start({ network: networkOptions, dockerHub = false, ...options }: NodeOptions = {}): Promise<TestNode> {
    await using started = new AsyncDisposableStack();
    const images = await freeFolder('images');
    started.defer(() => removeFolder(images));
    const registry = started.use(await TestRegistry.start());
    const network = started.use(await TestNetwork.create(networkOptions));
    const busybox = await buildBusyboxImage(images);
    await registry.push(busybox.folder, imageName);
    const mirror = `[[registry]]\nprefix = "docker.io"\nlocation = "${registry.host}"\ninsecure = true\n`;
    const registriesConf = `${registry.registriesConf}${dockerHub ? mirror : ''}`;
    const daemon = started.use(await TestDaemon.start({ ...options, registry: { registriesConf }, network }));
    const image = `${registry.host}/${imageName}`;
    await daemon.cri.call('PullImage', { image: { image } });
    started.move();
    return new TestNode(daemon, registry, network, image, images);
  }

  /** RunPodSandbox. */
  async runPod(options: PodOptions = {}): Promise<Pod> {
    this.#names += 1;
    const name = options.name ?? `pod${String(this.#names)}`;
    const config = {
      metadata: { name, uid: `uid-${name}`, namespace: 'test', attempt: 0 },
      hostname: name,
      log_directory: join(this.daemon.scratch, 'logs', name),
      linux: {},
      ...options.config,
    };
    const { pod_sandbox_id: id } = await this.daemon.cri.call('RunPodSandbox', {
      config,
      runtime_handler: options.handler ?? '',
    });
    return { id, config };
  }

  /** CreateContainer: by default a sleeping program, with a log file. */
  async createContainer(pod: Pod, options: RunContainer = {}): Promise<string> {
    this.#names += 1;
    const name = options.name ?? `c${String(this.#names)}`;
    const { container_id: id } = await this.daemon.cri.call('CreateContainer', {
      pod_sandbox_id: pod.id,
      sandbox_config: pod.config,
      config: {
        metadata: { name, attempt: 0 },
        image: { image: this.image },
        command: [...(options.command ?? ['sleep', '1000'])],
        log_path: `${name}/0.log`,
        linux: {},
        ...options.config,
      },
    });
    return id;
  }

  /** CreateContainer and StartContainer. */
  async startContainer(pod: Pod, options: RunContainer = {}): Promise<string> {
    const id = await this.createContainer(pod, options);
    await this.daemon.cri.call('StartContainer', { container_id: id });
    return id;
  }

  /** Runs a program to its end; its output without the log's decoration, and its exit code. */
  async runToEnd(
    pod: Pod,
    options: RunContainer,
  ): Promise<{ readonly output: string; readonly exitCode: number; readonly status: cri.ContainerStatus }> {
    const id = await this.startContainer(pod, options);
    const status = await this.waitExited(id);
    const output = (await this.logLines(id)).map(({ content }) => content).join('\n');
    return { output, exitCode: status.exit_code, status };
  }

  async status(id: string): Promise<cri.ContainerStatus> {
    const { status } = await this.daemon.cri.call('ContainerStatus', { container_id: id });
    if (status === null) throw new Error(`no status of container ${id}`);
    return status;
  }

  async waitExited(id: string, timeoutMs = 60_000): Promise<cri.ContainerStatus> {
    for (const deadline = Date.now() + timeoutMs; ;) {
      const status = await this.status(id);
      if (status.state === 'CONTAINER_EXITED') return status;
      if (Date.now() > deadline) throw new Error(`container ${id} is ${status.state} after ${String(timeoutMs)} ms`);
      await delay(10);
    }
  }

  async logLines(id: string): Promise<{ readonly stream: string; readonly tag: string; readonly content: string }[]> {
    return parseLog(await readFile((await this.status(id)).log_path, 'utf8'));
  }

  /** ExecSync; rejects when the command cannot be run, not when it fails. */
  async exec(
    id: string,
    ...cmd: readonly string[]
  ): Promise<{ readonly stdout: string; readonly stderr: string; readonly exitCode: number }> {
    const done = await this.daemon.cri.call('ExecSync', { container_id: id, cmd: [...cmd], timeout: '60' });
    return {
      stdout: Buffer.from(done.stdout).toString(),
      stderr: Buffer.from(done.stderr).toString(),
      exitCode: done.exit_code,
    };
  }

  /** `sh -c` in a container; its standard output, trimmed. Rejects when it fails. */
  async sh(id: string, script: string): Promise<string> {
    const { stdout, stderr, exitCode } = await this.exec(id, 'sh', '-c', script);
    if (exitCode !== 0) throw new Error(`exit code ${String(exitCode)}: ${stderr}${stdout}`);
    return stdout.trim();
  }

  async podStatus(pod: Pod): Promise<cri.PodSandboxStatus> {
    const { status } = await this.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: pod.id });
    if (status === null) throw new Error(`no status of pod ${pod.id}`);
    return status;
  }

  /** Where a pod's VM came from, and what the host has of it. */
  async vmOf(pod: Pod): Promise<PodVmInfo> {
    const { info } = await this.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: pod.id, verbose: true });
    return (JSON.parse(info['info'] ?? '{}') as { readonly vm: PodVmInfo }).vm;
  }

  /** Process id of the QEMU that runs a pod. */
  async qemuPid(pod: Pod): Promise<number> {
    const { info } = await this.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: pod.id, verbose: true });
    return (JSON.parse(info['info'] ?? '{}') as { readonly pid: number }).pid;
  }

  async removePod(pod: Pod): Promise<void> {
    await this.daemon.cri.call('StopPodSandbox', { pod_sandbox_id: pod.id });
    await this.daemon.cri.call('RemovePodSandbox', { pod_sandbox_id: pod.id });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon.close();
    await this.network.close();
    await this.registry.close();
    await removeFolder(this.#images);
  }
}

/** Lines of a CRI log file, each checked for its form. The host runtime leaves out zeros at the end of a second's fraction. */
export function parseLog(text: string): { readonly stream: string; readonly tag: string; readonly content: string }[] {
  if (text !== '' && !text.endsWith('\n')) throw new Error(`the log ends in the middle of a line: ${text.slice(-200)}`);
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const [, stream, tag, content] =
        /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z (stdout|stderr) ([PF]) (.*)$/s.exec(line) ?? [];
      if (stream === undefined || tag === undefined || content === undefined)
        throw new Error(`not a CRI log line: ${line.slice(0, 200)}`);
      return { stream, tag, content };
    });
}
