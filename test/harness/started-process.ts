import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

export interface StartOptions {
  /** Takes stdout and stderr. */
  readonly logFile: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A background process of a test. It dies with the test's process if that is killed. */
export interface StartedProcess {
  readonly pid: number;
  /** Undefined while it runs. */
  readonly exit: string | undefined;
  log(): Promise<string>;
  /** The first match in the log; rejects with the end of the log on a time-out, or when the process has ended. */
  waitForLog(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray>;
  /** Waits until it has ended by itself or by somebody else's signal. */
  ended(timeoutMs: number): Promise<string>;
  signal(signal: NodeJS.Signals): void;
  /** SIGTERM, then SIGKILL. Fine when it has ended already. */
  stop(graceMs?: number): Promise<void>;
}

const tailLength = 4000;

class ChildOfTest implements StartedProcess {
  readonly pid: number;
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #logFile: string;

  constructor(name: string, child: ChildProcess, pid: number, logFile: string) {
    this.#name = name;
    this.#child = child;
    this.pid = pid;
    this.#logFile = logFile;
  }

  get exit(): string | undefined {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null) return `exit code ${String(exitCode)}`;
    return signalCode ?? undefined;
  }

  async log(): Promise<string> {
    return await readFile(this.#logFile, 'utf8');
  }

  async waitForLog(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const { exit } = this;
      const text = await this.log();
      const match = pattern.exec(text);
      if (match !== null) return match;
      const fail = (why: string): Error =>
        new Error(`${this.#name}: ${why} before it logged ${String(pattern)}:\n${text.slice(-tailLength)}`);
      if (exit !== undefined) throw fail(`ended with ${exit}`);
      if (Date.now() > deadline) throw fail(`${String(timeoutMs)} ms passed`);
      await delay(20);
    }
  }

  async ended(timeoutMs: number): Promise<string> {
    if (this.exit === undefined) {
      const ended = once(this.#child, 'exit', { signal: AbortSignal.timeout(timeoutMs) });
      await ended.catch((error: unknown) => {
        throw new Error(`${this.#name}: still runs after ${String(timeoutMs)} ms`, { cause: error });
      });
    }
    return this.exit ?? 'unknown';
  }

  signal(signal: NodeJS.Signals): void {
    if (this.exit === undefined) this.#child.kill(signal);
  }

  async stop(graceMs = 10_000): Promise<void> {
    if (this.exit !== undefined) return;
    this.#child.kill('SIGTERM');
    try {
      await this.ended(graceMs);
    } catch {
      this.#child.kill('SIGKILL');
      await this.ended(5_000);
    }
  }
}

export async function startProcess(
  program: string,
  args: readonly string[],
  options: StartOptions,
): Promise<StartedProcess> {
  const log = await open(options.logFile, 'a');
  try {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], {
      stdio: ['ignore', log.fd, log.fd],
      env: { ...process.env, ...options.env },
    });
    await once(child, 'spawn');
    if (child.pid === undefined) throw new Error(`${program}: has no pid`);
    return new ChildOfTest(program, child, child.pid, options.logFile);
  } finally {
    await log.close();
  }
}
