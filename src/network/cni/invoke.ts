import { stat } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { AppError, abortError, hasCode, messageOf } from '../../platform/errors.ts';
import type { ErrorKind } from '../../platform/errors.ts';

export type CniCommand = 'ADD' | 'DEL' | 'STATUS';

/** The variables of one call beside CNI_COMMAND and CNI_PATH. */
export type CniEnvironment = Readonly<Record<string, string>>;

/** How a program came to its end. */
export interface ProgramEnd {
  readonly stdout: string;
  readonly stderr: string;
  /** Null when a signal has ended it. */
  readonly code: number | null;
  readonly signal: number | null;
}

export interface RunningProgram {
  /** When it has ended and nobody holds its output open. Rejects, with the system's error as cause, when it cannot be started. */
  readonly ended: Promise<ProgramEnd>;
  /** To all of its process group, which may outlive it. */
  kill(signal: NodeJS.Signals): void;
  /** Whoever holds its output open is waited for no longer. */
  abandon(): void;
}

/** Runs programs, each in a process group of its own, with what the daemon's environment has and more. */
export interface Programs {
  run(program: string, environment: Readonly<Record<string, string>>, input: string): RunningProgram;
}

export interface PluginRunnerOptions {
  readonly programs: Programs;
  /** Where plugins are looked for, in this order; also their CNI_PATH, for the plugins they call in turn. */
  readonly binDirs: readonly string[];
  readonly timeoutMs?: number;
}

/** Some plugins wait for their own agent on the node to come up. */
const DEFAULT_TIMEOUT_MS = 90_000;
/** From SIGTERM to SIGKILL, and from that to giving up on output that a runaway child holds open. */
const GRACE_MS = 2_000;
const BUSY_RETRIES = 5;

const errorSchema = z.looseObject({ code: z.number(), msg: z.string().default(''), details: z.string().default('') });

/** An error that the plugin itself reported, with the specification's code. */
export class PluginError extends AppError {
  /** https://www.cni.dev/docs/spec/#error; 0 when the plugin ended without saying why. */
  readonly code: number;

  constructor(kind: ErrorKind, message: string, code: number) {
    super(kind, message);
    this.code = code;
  }
}

/** Calls CNI plugins: configuration on stdin, parameters in the environment, result or error as JSON on stdout. */
export class PluginRunner {
  readonly #programs: Programs;
  readonly #binDirs: readonly string[];
  readonly #timeoutMs: number;

  constructor(options: PluginRunnerOptions) {
    this.#programs = options.programs;
    this.#binDirs = options.binDirs;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  /** Path of a plugin's program. */
  async find(type: string): Promise<string> {
    for (const directory of this.#binDirs) {
      const path = join(directory, type);
      const found = await stat(path).catch((error: unknown) => {
        if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
        throw error;
      });
      if (found?.isFile()) return path;
    }
    throw new AppError('failed-precondition', `CNI plugin "${type}" is not in ${this.#binDirs.join(', ')}`);
  }

  /** The plugin's JSON output; undefined when it printed nothing. */
  async run(
    command: CniCommand,
    type: string,
    config: Readonly<Record<string, unknown>>,
    environment: CniEnvironment,
    signal?: AbortSignal,
  ): Promise<unknown> {
    const path = await this.find(type);
    const env = { ...environment, CNI_COMMAND: command, CNI_PATH: this.#binDirs.join(':') };
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#exec({ command, type, path, env, input: JSON.stringify(config) }, signal);
      } catch (error) {
        // An installer is writing the program at this moment.
        if (!(error instanceof AppError && hasCode(error.cause, 'ETXTBSY')) || attempt > BUSY_RETRIES) throw error;
        await delay(200);
      }
    }
  }

  async #exec(
    call: { command: CniCommand; type: string; path: string; env: CniEnvironment; input: string },
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    const label = `CNI plugin ${call.type} (${call.command})`;
    if (signal?.aborted) throw abortError(signal, label);
    // With its group: the IPAM plugin that a plugin calls must end with it, or an address might be taken after DEL has
    // given it back.
    const program = this.#programs.run(call.path, call.env, call.input);
    const deadline = AbortSignal.timeout(this.#timeoutMs);
    const end = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
    const timers: NodeJS.Timeout[] = [];
    const stop = (): void => {
      program.kill('SIGTERM');
      const kill = setTimeout(() => {
        program.kill('SIGKILL');
      }, GRACE_MS);
      const giveUp = setTimeout(() => {
        program.abandon();
      }, 2 * GRACE_MS);
      timers.push(kill, giveUp);
    };
    end.addEventListener('abort', stop, { once: true });
    try {
      const ended = await program.ended.catch((error: unknown) => {
        throw failedToRun(error, label);
      });
      if (ended.code !== 0) throw describe(ended, label);
      return ended.stdout.trim() === '' ? undefined : parseOutput(ended.stdout, label);
    } catch (error) {
      if (signal?.aborted) throw abortError(signal, label);
      if (deadline.aborted) {
        throw new AppError('deadline', `${label}: no answer in ${String(this.#timeoutMs)} ms`, { cause: error });
      }
      throw error;
    } finally {
      end.removeEventListener('abort', stop);
      for (const timer of timers) clearTimeout(timer);
      // Whoever of the group has let go of its output and still runs.
      if (end.aborted) program.kill('SIGKILL');
    }
  }
}

function parseOutput(text: string, label: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new AppError('internal', `${label}: its output is not JSON: ${tail(text)}`, { cause: error });
  }
}

/** With the system's error as the cause, if that kept it from starting. */
function failedToRun(error: unknown, label: string): AppError {
  const cause = error instanceof AppError ? error.cause : undefined;
  const kind = cause === undefined ? 'internal' : 'failed-precondition';
  return new AppError(kind, `${label}: ${messageOf(error)}`, { cause });
}

/** What the plugin says on stdout; else its last words on stderr. */
function describe({ code: exitCode, signal, stdout, stderr }: ProgramEnd, label: string): PluginError {
  const reported = errorSchema.safeParse(tryJson(stdout));
  if (!reported.success) {
    const how = signal === null ? `exit code ${String(exitCode)}` : signalName(signal);
    return new PluginError('internal', `${label}: ${how}: ${tail(stderr || stdout) || 'no error message'}`, 0);
  }
  const { code, msg, details } = reported.data;
  const text = [msg, details].filter((each) => each !== '').join(': ') || tail(stderr) || 'no error message';
  return new PluginError(kindOf(code), `${label}: ${text} (code ${String(code)})`, code);
}

function signalName(signal: number): string {
  const known = Object.entries(constants.signals).find(([, number]) => number === signal);
  return known?.[0] ?? `signal ${String(signal)}`;
}

function kindOf(code: number): ErrorKind {
  switch (code) {
    case 1: // incompatible CNI version
    case 2: // unsupported field in the network configuration
    case 7: // invalid network configuration
      return 'failed-precondition';
    case 11: // try again later
    case 50: // the plugin is not available
    case 51: // the plugin is not available, and existing containers may lose connectivity
      return 'unavailable';
    default:
      return 'internal';
  }
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined; // the caller falls back on the text
  }
}

function tail(text: string): string {
  return text.trim().slice(-2_000).replaceAll('\n', '; ');
}
