import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa, type ResultPromise } from 'execa';

export interface CrictlResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export const crictlPath = join(import.meta.dirname, '../../libexec/crictl');

/** crictl against one socket, with a configuration of its own: the machine's is not read. */
export class Crictl {
  readonly #config: string;

  private constructor(config: string) {
    this.#config = config;
  }

  /** `folder` takes the configuration file, `settings` come into it. */
  static async create(
    folder: string,
    socket: string,
    settings: Readonly<Record<string, unknown>> = { timeout: 120 },
  ): Promise<Crictl> {
    const config = join(folder, 'crictl.yaml');
    const endpoint = `unix://${socket}`;
    await writeFile(config, JSON.stringify({ 'runtime-endpoint': endpoint, 'image-endpoint': endpoint, ...settings }));
    return new Crictl(config);
  }

  /** What to call `crictlPath` with, for who wants the process itself. */
  arguments(...args: readonly string[]): readonly string[] {
    return ['--config', this.#config, ...args];
  }

  /** Runs it to the end, whatever the exit code. */
  async try(...args: readonly string[]): Promise<CrictlResult> {
    const result = await execa(crictlPath, this.arguments(...args), {
      reject: false,
      timeout: 180_000,
      stdin: 'ignore',
      env: { LANG: 'C.UTF-8' },
    });
    if (result.exitCode === undefined) throw new Error(`crictl ${args.join(' ')}: ${String(result.message)}`);
    return { exitCode: result.exitCode, stdout: result.stdout, stderr: result.stderr };
  }

  /** Starts one that goes on until it is killed. */
  start(...args: readonly string[]): ResultPromise<{ stdin: 'ignore' }> {
    return execa(crictlPath, this.arguments(...args), { stdin: 'ignore', env: { LANG: 'C.UTF-8' } });
  }

  /** Runs it on a terminal of its own, and gives what that showed. */
  async onTerminal(...args: readonly string[]): Promise<string> {
    const words = [crictlPath, '--config', this.#config, ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`);
    const script = ['--quiet', '--return', '--command', words.join(' '), '/dev/null'];
    // An end of input would be typed.
    return (await execa('script', script, { stdin: 'pipe', timeout: 180_000 })).stdout;
  }

  /** Its standard output; rejects when it fails. */
  async run(...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.try(...args);
    if (exitCode !== 0) throw new Error(`crictl ${args.join(' ')}: exit code ${String(exitCode)}: ${stderr}`);
    return stdout;
  }

  /** For commands with `-o json`. */
  async json(...args: readonly string[]): Promise<unknown> {
    return JSON.parse(await this.run(...args)) as unknown;
  }
}
