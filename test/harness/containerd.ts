import { access, glob, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import { stringify } from 'smol-toml';
import { mountsBelow } from '../../src/platform/mount-table.ts';
import { identify, terminate } from '../../src/platform/processes.ts';
import type { TestNetwork } from './cni.ts';
import type { CriClient } from '../../src/cri/client.ts';
import { testClient } from './cri-client.ts';
import { freeFolder, removeFolder } from './free-folder.ts';
import { buildPauseImage } from './pause-image.ts';
import { startProcess, type StartedProcess } from './started-process.ts';

export interface ContainerdOptions {
  /** Pods that do not use the host's network get theirs from it. */
  readonly network?: TestNetwork;
  /**
   * Where images of a registry are pulled from, as hosts.toml has it, by the registry's name. A registry on
   * loopback needs none.
   */
  readonly registryHosts?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

export const containerdFolder = join(import.meta.dirname, '../../libexec/containerd');
const pauseImage = 'kelyfos.test/pause:1';
const startTimeoutMs = 30_000;
const toolTimeoutMs = 60_000;
/** A constant of containerd's, for the sockets of its shims. */
const shimSockets = '/run/containerd/s';

/** A containerd with folders, socket and configuration of its own, ready to be a CRI runtime. */
export class TestContainerd implements AsyncDisposable {
  readonly folder: string;
  readonly socket: string;
  readonly cri: CriClient;
  readonly #hadRunFolder: boolean;
  #process: StartedProcess | undefined;

  private constructor(folder: string, hadRunFolder: boolean) {
    this.folder = folder;
    this.socket = join(folder, 'containerd.sock');
    this.cri = testClient(this.socket);
    this.#hadRunFolder = hadRunFolder;
  }

  /** Started and answering, with its sandbox image. */
  static async start(options: ContainerdOptions = {}): Promise<TestContainerd> {
    const folder = await freeFolder('containerd');
    const containerd = new TestContainerd(folder, await exists('/run/containerd'));
    try {
      await containerd.#writeConfig(options);
      await containerd.start();
      await containerd.#importPause();
    } catch (error) {
      await containerd.close();
      throw error;
    }
    return containerd;
  }

  /** For `host_runtime.endpoint`. */
  get endpoint(): string {
    return `unix://${this.socket}`;
  }

  get pid(): number {
    if (this.#process === undefined) throw new Error('containerd does not run');
    return this.#process.pid;
  }

  async #writeConfig({ network, registryHosts = {} }: ContainerdOptions): Promise<void> {
    const registries = join(this.folder, 'certs.d');
    const noNetworks = join(this.folder, 'no-networks');
    for (const folder of [registries, noNetworks]) await mkdir(folder);
    for (const [registry, hosts] of Object.entries(registryHosts)) {
      await mkdir(join(registries, registry));
      await writeFile(join(registries, registry, 'hosts.toml'), stringify(hosts));
    }
    const runc = { runtime_type: 'io.containerd.runc.v2', options: { Root: join(this.folder, 'runc') } };
    const config = {
      version: 3,
      root: join(this.folder, 'root'),
      state: join(this.folder, 'state'),
      grpc: { address: this.socket },
      ttrpc: { address: `${this.socket}.ttrpc` },
      plugins: {
        'io.containerd.cri.v1.images': {
          pinned_images: { sandbox: pauseImage },
          registry: { config_path: registries },
        },
        'io.containerd.cri.v1.runtime': {
          // Lowering the score takes CAP_SYS_RESOURCE, which not every machine gives its root.
          restrict_oom_score_adj: true,
          netns_mounts_under_state_dir: true,
          containerd: { default_runtime_name: 'runc', runtimes: { runc } },
          cni: { bin_dirs: ['/opt/cni/bin', '/usr/lib/cni'], conf_dir: network?.confDir ?? noNetworks },
        },
        'io.containerd.internal.v1.opt': { path: join(this.folder, 'opt') },
        'io.containerd.nri.v1.nri': { disable: true },
      },
    };
    await writeFile(join(this.folder, 'config.toml'), stringify(config));
  }

  /** Again, after `stop` or `kill`; returns when the socket answers. */
  async start(): Promise<void> {
    const process = await startProcess(
      join(containerdFolder, 'containerd'),
      ['--config', join(this.folder, 'config.toml'), '--log-level', 'debug'],
      {
        logFile: join(this.folder, 'log'),
        env: { PATH: `${containerdFolder}:${globalThis.process.env['PATH'] ?? ''}` },
      },
    );
    this.#process = process;
    const deadline = Date.now() + startTimeoutMs;
    for (;;) {
      try {
        await this.cri.call('Version', {}, { timeoutMs: 2000 });
        return;
      } catch (error) {
        const why = process.exit !== undefined ? `ended with ${process.exit}` : 'does not answer';
        if (process.exit !== undefined || Date.now() > deadline) {
          throw new Error(`containerd ${why}:\n${(await this.log()).slice(-4000)}`, { cause: error });
        }
        await delay(50);
      }
    }
  }

  async #importPause(): Promise<void> {
    const layout = join(this.folder, 'pause');
    await buildPauseImage(layout);
    const archive = join(this.folder, 'pause.tar');
    const copy = ['--insecure-policy', 'copy', '--quiet', `oci:${layout}`, `docker-archive:${archive}:${pauseImage}`];
    await execa('skopeo', copy, { timeout: toolTimeoutMs });
    await this.ctr('images', 'import', archive);
    // Its CRI part hears of the image a moment later.
    for (const deadline = Date.now() + startTimeoutMs; ;) {
      const { image } = await this.cri.call('ImageStatus', { image: { image: pauseImage } });
      if (image !== null) return;
      if (Date.now() > deadline) throw new Error(`containerd: no ${pauseImage} after the import`);
      await delay(20);
    }
  }

  /** Its own client, on the images and containers that CRI sees; standard output. */
  async ctr(...args: readonly string[]): Promise<string> {
    const all = ['--address', this.socket, '--namespace', 'k8s.io', ...args];
    return (await execa(join(containerdFolder, 'ctr'), all, { timeout: toolTimeoutMs })).stdout;
  }

  async log(): Promise<string> {
    return await readFile(join(this.folder, 'log'), 'utf8').catch(() => '');
  }

  /** SIGTERM. Pods stay. */
  async stop(): Promise<void> {
    await this.#process?.stop();
  }

  /** SIGSTOP: it hangs, with its socket open. */
  suspend(): void {
    this.#process?.signal('SIGSTOP');
  }

  resume(): void {
    this.#process?.signal('SIGCONT');
  }

  /** Pods, then the daemon, then what it leaves on the machine. */
  async close(): Promise<void> {
    if (this.#process !== undefined) {
      this.resume();
      if (this.#process.exit !== undefined) await this.start();
      await this.#removePods();
      await this.#process.stop();
    }
    this.cri.close();
    await this.#endShims();
    for (const point of (await mountsBelow(this.folder)).toReversed())
      await execa('umount', ['--lazy', point], { timeout: toolTimeoutMs });
    await removeFolder(this.folder);
    // One for all containerds of a machine: stays while another uses it.
    for await (const group of glob('/sys/fs/cgroup/**/k8s.io')) await rmdir(group).catch(() => undefined);
    if (!this.#hadRunFolder) {
      for (const folder of [shimSockets, '/run/containerd/io.containerd.runtime.v2.task', '/run/containerd'])
        await rmdir(folder).catch(() => undefined);
    }
  }

  async #removePods(): Promise<void> {
    const { items } = await this.cri.call('ListPodSandbox', {});
    for (const { id } of items) {
      await this.cri.call('StopPodSandbox', { pod_sandbox_id: id });
      await this.cri.call('RemovePodSandbox', { pod_sandbox_id: id });
    }
  }

  /** Shims outlive containerd; those of this one have its socket in their arguments. */
  async #endShims(): Promise<void> {
    for (const name of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
      const command = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '');
      if (!command.includes('containerd-shim-runc-v2') || !command.includes(this.socket)) continue;
      const identity = await identify(Number(name));
      if (identity !== undefined) await terminate(identity, 2_000);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
