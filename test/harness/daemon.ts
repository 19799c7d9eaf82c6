import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'smol-toml';
import type { CriClient } from '../../src/cri/client.ts';
import { testClient } from './cri-client.ts';
import { Crictl } from './crictl.ts';
import type { TestNetwork } from './cni.ts';
import { daemonRegister } from './daemon-register.ts';
import { freeFolder, removeFolder } from './free-folder.ts';
import { clearState } from './clear-state.ts';
import { leftBehind } from './left-behind.ts';
import type { TestRegistry } from './registry.ts';
import { startProcess, type StartedProcess } from './started-process.ts';

export interface DaemonOptions {
  readonly registry?: Pick<TestRegistry, 'registriesConf'>;
  /** Without one the configuration folder of CNI is empty. */
  readonly network?: TestNetwork;
  /** Keys of the configuration file, laid over the harness's own, table by table. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Default: tcg (or KELYFOS_TEST_ACCELERATOR), which spares the probe of `auto`. */
  readonly accelerator?: string;
  readonly startTimeoutMs?: number;
  /** A configuration file with `config` and the folder of CNI in it, and nothing else: all else is the default. */
  readonly bare?: boolean;
}

type Table = Readonly<Record<string, unknown>>;

const program = join(import.meta.dirname, '../../bin/kelyfos');
const defaultStartTimeoutMs = 120_000;
const tailLength = 6000;

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function mergeTables(below: Table, above: Table): Table {
  const merged: Record<string, unknown> = { ...below };
  for (const [key, value] of Object.entries(above)) {
    const present = merged[key];
    merged[key] = isTable(present) && isTable(value) ? mergeTables(present, value) : value;
  }
  return merged;
}

/** A kelyfos daemon with folders, socket and configuration of its own. */
export class TestDaemon implements AsyncDisposable {
  readonly folder: string;
  readonly root: string;
  readonly state: string;
  readonly socket: string;
  readonly configFile: string;
  /** For log directories of pods and sources of volumes. */
  readonly scratch: string;
  readonly cri: CriClient;
  readonly crictl: Crictl;
  readonly #options: DaemonOptions;
  #process: StartedProcess | undefined;

  private constructor(folder: string, crictl: Crictl, options: DaemonOptions) {
    this.folder = folder;
    this.root = join(folder, 'root');
    this.state = join(folder, 'state');
    this.socket = TestDaemon.#socketOf(folder);
    this.configFile = join(folder, 'config.toml');
    this.scratch = join(folder, 'scratch');
    this.cri = testClient(this.socket);
    this.crictl = crictl;
    this.#options = options;
  }

  static #socketOf(folder: string): string {
    return join(folder, 'kelyfos.sock');
  }

  /** Started and answering. */
  static async start(options: DaemonOptions = {}): Promise<TestDaemon> {
    const folder = await freeFolder('test');
    const daemon = new TestDaemon(folder, await Crictl.create(folder, TestDaemon.#socketOf(folder)), options);
    await daemon.#writeConfig();
    daemonRegister().add(daemon);
    try {
      await daemon.start();
    } catch (error) {
      await daemon.close();
      throw error;
    }
    return daemon;
  }

  async #writeConfig(): Promise<void> {
    const { registry, network, accelerator, config, bare = false } = this.#options;
    const emptyCni = join(this.folder, 'no-networks');
    await mkdir(this.scratch);
    await mkdir(emptyCni);
    if (bare) {
      const cni = { conf_dir: network?.confDir ?? emptyCni };
      await writeFile(this.configFile, stringify(mergeTables({ cni }, config ?? {})));
      return;
    }
    const registriesConf = join(this.folder, 'registries.conf');
    await writeFile(registriesConf, registry?.registriesConf ?? '');
    const policy = join(this.folder, 'policy.json');
    await writeFile(policy, JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }));
    const base = {
      log: { level: 'debug' },
      cni: { conf_dir: network?.confDir ?? emptyCni },
      images: { registries_conf: registriesConf, policy },
      vm: { accelerator: accelerator ?? process.env['KELYFOS_TEST_ACCELERATOR'] ?? 'tcg' },
      metrics: { address: '127.0.0.1:0' },
    };
    await writeFile(this.configFile, stringify(mergeTables(base, config ?? {})));
  }

  get pid(): number {
    if (this.#process === undefined) throw new Error('the daemon does not run');
    return this.#process.pid;
  }

  get #logFile(): string {
    return join(this.folder, 'daemon.log');
  }

  /** Again, after `stop` or `kill`; returns when the socket answers. */
  async start(): Promise<void> {
    const { configFile, root, state, socket } = this;
    const args = ['daemon', '--config', configFile, '--root', root, '--state', state, '--socket', socket];
    const process = await startProcess(program, args, { logFile: this.#logFile });
    this.#process = process;
    const deadline = Date.now() + (this.#options.startTimeoutMs ?? defaultStartTimeoutMs);
    for (;;) {
      try {
        await this.cri.call('Version', {}, { timeoutMs: 2000 });
        return;
      } catch (error) {
        const why = process.exit !== undefined ? `ended with ${process.exit}` : 'does not answer';
        if (process.exit !== undefined || Date.now() > deadline) {
          throw new Error(`the daemon ${why}:\n${(await this.log()).slice(-tailLength)}`, { cause: error });
        }
        await delay(25);
      }
    }
  }

  /** SIGTERM; how it ended. Pods stay. */
  async stop(timeoutMs = 10_000): Promise<string> {
    this.#process?.signal('SIGTERM');
    return (await this.#process?.ended(timeoutMs)) ?? 'not started';
  }

  /** SIGKILL, in the middle of whatever it does. Pods stay. */
  async kill(): Promise<void> {
    this.#process?.signal('SIGKILL');
    await this.#process?.ended(5_000);
  }

  async log(): Promise<string> {
    return await readFile(this.#logFile, 'utf8').catch(() => '');
  }

  /** The ends of the daemon's log and of each VM's serial and error logs. */
  async dump(): Promise<string> {
    // Polling would push everything else out.
    const lines = (await this.log()).split('\n').filter((line) => !/"rpc":"(Status|Version|List\w+)"/.test(line));
    const parts = [`==== ${this.#logFile}\n${lines.join('\n').slice(-tailLength)}`];
    const vms = join(this.state, 'vms');
    for (const vm of await readdir(vms).catch(() => [])) {
      for (const name of ['stderr.log', 'serial.log']) {
        const text = await readFile(join(vms, vm, name), 'utf8').catch(() => '');
        if (text !== '') parts.push(`==== ${vm}/${name}\n${text.slice(-tailLength)}`);
      }
    }
    return `${parts.join('\n')}\n`;
  }

  /** Stops and removes all pods through the daemon, in order of the API. */
  async removePods(): Promise<void> {
    const { items } = await this.cri.call('ListPodSandbox', {});
    for (const { id } of items) {
      await this.cri.call('StopPodSandbox', { pod_sandbox_id: id });
      await this.cri.call('RemovePodSandbox', { pod_sandbox_id: id });
    }
  }

  /** What it ought to have cleared away by itself. Only after `removePods` and an orderly end is that everything. */
  async #leftBehind(): Promise<void> {
    const found = await leftBehind(this, async () => (await this.#options.network?.leases()) ?? []);
    if (found.length > 0) throw new Error(`the daemon left behind:\n${found.join('\n')}`);
  }

  /**
   * Pods through the daemon if it runs, then the daemon, then templates, then the folders. Rejects when
   * the daemon left something behind that it should not have.
   */
  async close(): Promise<void> {
    const problems: unknown[] = [];
    const attempt = async (work: () => Promise<unknown>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        problems.push(error);
      }
    };
    if (this.#process?.exit === undefined && this.#process !== undefined) {
      await attempt(() => this.removePods());
      await attempt(async () => {
        const how = await this.stop();
        if (how !== 'exit code 0') throw new Error(`the daemon ended with ${how}`);
      });
      if (problems.length === 0) await attempt(() => this.#leftBehind());
      await this.kill();
    }
    this.cri.close();
    daemonRegister().delete(this);
    await attempt(() => clearState(this.state));
    await attempt(() => removeFolder(this.folder));
    if (problems.length > 0) throw new AggregateError(problems, `closing the daemon of ${this.folder}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
