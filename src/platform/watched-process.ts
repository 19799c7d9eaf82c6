import { spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { AppError, abortError, hasCode, wrap } from './errors.ts';

export interface WatchedCommand {
  /** What it does, for errors: "skopeo copy busybox". */
  readonly name: string;
  readonly argv: readonly [string, ...string[]];
  readonly cwd?: string;
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** A stream, or an open file the child reads itself; nothing by default. */
  readonly stdin?: Readable | number;
  /** Open files the child gets as 3, 4 and so on. */
  readonly inherit?: readonly number[];
  /** Killed when neither output comes nor the measure of progress changes for so long. */
  readonly stallMs: number;
  readonly progress?: (pid: number) => Promise<number>;
  readonly maxOutputBytes: number;
}

export interface WatchedExit {
  readonly code: number | undefined;
  readonly signal: string | undefined;
  readonly stdout: Buffer;
  /** The last of it. */
  readonly stderr: string;
}

const STDERR_TAIL = 4096;
const CHECK_MS = 500;

/**
 * Runs a child in a process group of its own until it ends, gets nowhere, or the signal fires; on
 * the latter two the group is killed and has ended when this rejects. The child also dies with the
 * daemon, however that ends. How a child that ended by itself fared is for the caller to judge.
 */
export async function runWatched(command: WatchedCommand, signal: AbortSignal): Promise<WatchedExit> {
  if (signal.aborted) throw abortError(signal, command.name);
  const { stdin } = command;
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command.argv], {
    stdio: [stdinOf(stdin), 'pipe', 'pipe', ...(command.inherit ?? [])],
    cwd: command.cwd,
    env: command.env,
    detached: true,
  });
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, by) => {
      resolve({ code, signal: by });
    });
  });
  const { pid } = child;
  if (pid === undefined) {
    await ended.catch((error: unknown) => {
      throw wrap(error, `${command.name}: cannot be started`);
    });
    throw new AppError('internal', `${command.name}: cannot be started`);
  }

  const watch = new Watch(pid, command);
  child.stdout?.on('data', (chunk: Buffer) => {
    watch.collect(chunk);
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    watch.complaint(chunk);
  });
  if (stdin instanceof Readable && child.stdin !== null) {
    // A child that fails closes its end first; its exit says why.
    child.stdin.on('error', () => undefined);
    stdin.on('error', (error: unknown) => {
      watch.fail(wrap(error, command.name));
    });
    stdin.pipe(child.stdin);
  }
  const kill = (): void => {
    killGroup(pid);
  };
  const cancel = (): void => {
    watch.fail(abortError(signal, command.name));
  };
  signal.addEventListener('abort', cancel, { once: true });
  try {
    const exit = await ended;
    if (watch.failure !== undefined) throw watch.failure;
    return { code: exit.code ?? undefined, signal: exit.signal ?? undefined, stdout: watch.output, stderr: watch.tail };
  } finally {
    watch.stop();
    signal.removeEventListener('abort', cancel);
    // What the child started goes with it.
    kill();
  }
}

/** Gathers what a child says, and kills it when it says too much or gets nowhere. */
class Watch {
  failure: AppError | undefined;
  readonly #pid: number;
  readonly #command: WatchedCommand;
  readonly #timer: NodeJS.Timeout;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #stderr = '';
  #measured = 0;
  #lastProgress = performance.now();

  constructor(pid: number, command: WatchedCommand) {
    this.#pid = pid;
    this.#command = command;
    this.#timer = setInterval(() => {
      this.#check().catch((error: unknown) => {
        this.fail(wrap(error, `${command.name}: cannot watch it`));
      });
    }, CHECK_MS);
  }

  get output(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  get tail(): string {
    return this.#stderr.trim();
  }

  collect(chunk: Buffer): void {
    this.#lastProgress = performance.now();
    this.#bytes += chunk.length;
    if (this.#bytes <= this.#command.maxOutputBytes) this.#chunks.push(chunk);
    else this.fail(new AppError('exhausted', `${this.#command.name}: its output is too long`));
  }

  complaint(chunk: Buffer): void {
    this.#lastProgress = performance.now();
    this.#stderr = (this.#stderr + chunk.toString()).slice(-STDERR_TAIL);
  }

  /** Ends the child, for this reason if there is none yet. */
  fail(failure: AppError): void {
    this.failure ??= failure;
    killGroup(this.#pid);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #check(): Promise<void> {
    const { name, progress, stallMs } = this.#command;
    const measured = (await progress?.(this.#pid)) ?? 0;
    if (measured !== this.#measured) this.#lastProgress = performance.now();
    this.#measured = measured;
    if (performance.now() - this.#lastProgress <= stallMs) return;
    const said = this.tail === '' ? '' : `: ${this.tail}`;
    this.fail(new AppError('deadline', `${name}: no progress for ${String(Math.round(stallMs / 1000))} s${said}`));
  }
}

function stdinOf(stdin: Readable | number | undefined): 'ignore' | 'pipe' | number {
  if (stdin === undefined) return 'ignore';
  return typeof stdin === 'number' ? stdin : 'pipe';
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (!hasCode(error, 'ESRCH')) throw error;
  }
}
