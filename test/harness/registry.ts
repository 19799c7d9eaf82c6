import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { freeFolder, removeFolder } from './free-folder.ts';
import { startProcess, type StartedProcess } from './started-process.ts';

const startTimeoutMs = 20_000;
const pushTimeoutMs = 120_000;

export interface RegistryOptions {
  /** A folder that keeps what is pushed; it stays. Without one the images go with the registry. */
  readonly store?: string;
}

/** A registry on loopback, on a free port, without TLS or authentication. */
export class TestRegistry implements AsyncDisposable {
  /** 127.0.0.1:PORT, the first part of an image's name. */
  readonly host: string;
  readonly #process: StartedProcess;
  readonly #folder: string;

  private constructor(host: string, process: StartedProcess, folder: string) {
    this.host = host;
    this.#process = process;
    this.#folder = folder;
  }

  static async start({ store }: RegistryOptions = {}): Promise<TestRegistry> {
    const folder = await freeFolder('registry');
    const config = {
      version: '0.1',
      log: { level: 'info', accesslog: { disabled: false } },
      storage: { filesystem: { rootdirectory: store ?? join(folder, 'store') }, delete: { enabled: true } },
      // The kernel chooses the port; the log says which.
      http: { addr: '127.0.0.1:0' },
    };
    // JSON is YAML.
    await writeFile(join(folder, 'config.yml'), JSON.stringify(config));
    const process = await startProcess('docker-registry', ['serve', join(folder, 'config.yml')], {
      logFile: join(folder, 'log'),
      env: { OTEL_TRACES_EXPORTER: 'none' },
    });
    try {
      const [, host] = await process.waitForLog(/listening on (127\.0\.0\.1:\d+)/, startTimeoutMs);
      if (host === undefined) throw new Error('registry: no address in its log');
      return new TestRegistry(host, process, folder);
    } catch (error) {
      await process.stop();
      await removeFolder(folder);
      throw error;
    }
  }

  get url(): string {
    return `http://${this.host}`;
  }

  /** For registries.conf: this registry has no TLS. */
  get registriesConf(): string {
    return `[[registry]]\nlocation = "${this.host}"\ninsecure = true\n`;
  }

  /** Uploads the image of an OCI layout as `name` (such as busybox:1); the full reference to pull it by. */
  async push(ociFolder: string, name: string): Promise<string> {
    const reference = `${this.host}/${name}`;
    const args = ['--insecure-policy', 'copy', '--quiet', '--dest-tls-verify=false'];
    await execa('skopeo', [...args, `oci:${ociFolder}`, `docker://${reference}`], { timeout: pushTimeoutMs });
    return reference;
  }

  /** What it has logged so far, requests included. */
  async log(): Promise<string> {
    return await this.#process.log();
  }

  async close(): Promise<void> {
    await this.#process.stop();
    await removeFolder(this.#folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
