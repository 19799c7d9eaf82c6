import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { getSystemErrorName } from 'node:util';
import { z } from 'zod';
import { AppError, hasCode, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { ProgramEnd, Programs, RunningProgram } from './cni/invoke.ts';

/** The kernel answers in a millisecond; a lock may make it wait, never this long. */
const TIMEOUT_MS = 20_000;
/** Of standard error, for the message when it ends. */
const LAST_WORDS = 2_000;

export interface NetworkerOptions {
  /** Path of kelyfos-networker. */
  readonly program: string;
  readonly log: Log;
}

/** A call as networker/src/call.rs knows it. */
type Work =
  | { readonly run: { program: string; environment: Readonly<Record<string, string>>; input: string } }
  | { readonly join: { namespace: string; interface: string; tap: string } }
  | { readonly make: { namespace: string; tap: string; settings: readonly (readonly [string, string])[] } }
  | { readonly forget: { namespace: string } };

const answerSchema = z.object({
  id: z.number(),
  started: z.number().optional(),
  ended: z
    .object({ stdout: z.string(), stderr: z.string(), code: z.number().nullable(), signal: z.number().nullable() })
    .optional(),
  network: z.unknown().optional(),
  failed: z.object({ message: z.string(), errno: z.number().nullable() }).optional(),
});

type Answer = z.infer<typeof answerSchema>;

interface Waiting {
  /** The process group of a program that runs. */
  group: number | undefined;
  /** What it is to be sent as soon as it runs. */
  signal: NodeJS.Signals | undefined;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

/**
 * The process that works on networks for the daemon, which has a large memory: to start a program takes it
 * milliseconds, in which it does nothing else. It is started with the first call, and again after it has ended by itself.
 */
export class Networker implements Programs {
  readonly #program: string;
  readonly #log: Log;
  readonly #waiting = new Map<number, Waiting>();
  #child: Child | undefined;
  #closed = false;
  #last = 0;

  constructor(options: NetworkerOptions) {
    this.#program = options.program;
    this.#log = options.log;
  }

  /** Connects interface and tap in a namespace; what there is in it. */
  async join(namespace: string, interfaceName: string, tap: string): Promise<unknown> {
    const { network } = await this.#call({ join: { namespace, interface: interfaceName, tap } });
    return network;
  }

  /** Makes a named namespace with loopback and a tap, both up. Settings are paths below /proc/sys, and values. */
  async make(namespace: string, tap: string, settings: readonly (readonly [string, string])[]): Promise<void> {
    await this.#call({ make: { namespace, tap, settings } });
  }

  /** Removes a namespace's name. Idempotent. */
  async forget(namespace: string): Promise<void> {
    await this.#call({ forget: { namespace } });
  }

  run(program: string, environment: Readonly<Record<string, string>>, input: string): RunningProgram {
    const { id, waiting, answer } = this.#send({ run: { program, environment, input } });
    return {
      ended: answer.then(({ ended }) => programEnd(ended)),
      kill: (signal) => {
        waiting.signal = signal;
        if (waiting.group !== undefined) killGroup(waiting.group, signal);
      },
      abandon: () => {
        this.#settle(id)?.reject(new AppError('internal', `${program} was given up`));
      },
    };
  }

  /** Ends the process, and with it what it is waited for. Programs that it has started go on. */
  close(): void {
    this.#closed = true;
    this.#child?.stdin.end();
  }

  async #call(work: Work): Promise<Answer> {
    const { id, answer } = this.#send(work);
    const timer = setTimeout(() => {
      this.#settle(id)?.reject(
        new AppError('internal', `${Object.keys(work).join('')}: no answer in ${String(TIMEOUT_MS)} ms`),
      );
    }, TIMEOUT_MS);
    try {
      return await answer;
    } finally {
      clearTimeout(timer);
    }
  }

  #send(work: Work): { readonly id: number; readonly waiting: Waiting; readonly answer: Promise<Answer> } {
    this.#last += 1;
    const id = this.#last;
    const { promise: answer, resolve, reject } = Promise.withResolvers<Answer>();
    const waiting: Waiting = { group: undefined, signal: undefined, resolve, reject };
    if (this.#closed) {
      reject(new AppError('unavailable', `${this.#program} is closed`));
    } else {
      this.#waiting.set(id, waiting);
      this.#child ??= this.#start();
      this.#child.stdin.write(`${JSON.stringify({ id, work })}\n`);
    }
    return { id, waiting, answer };
  }

  #start(): Child {
    // A group of its own: a signal from the terminal is the daemon's to obey.
    const child = spawn(this.#program, [], { detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    let lastWords = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      lastWords = (lastWords + text).slice(-LAST_WORDS);
    });
    let unread = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (unread + text).split('\n');
      unread = lines.pop() ?? '';
      try {
        for (const line of lines) this.#hear(line);
      } catch (error) {
        this.#log.error({ err: error }, `${this.#program} is ended: it has said what cannot be understood`);
        child.kill('SIGKILL');
      }
    });
    // Whoever has ended is told of by its exit.
    child.stdin.on('error', () => undefined);
    child.once('error', (error) => {
      this.#gone(child, `start ${this.#program}: ${messageOf(error)}`);
    });
    child.once('close', (code, signal) => {
      const how = signal ?? `exit code ${String(code)}`;
      this.#gone(child, [`${this.#program} has ended: ${how}`, lastWords.trim()].filter(Boolean).join(': '));
    });
    return child;
  }

  #gone(child: Child, reason: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    if (!this.#closed) this.#log.error(reason);
    for (const [id, { group, reject }] of this.#waiting) {
      this.#waiting.delete(id);
      // Nobody waits for its end any more; what undoes its work must not find it working.
      if (group !== undefined && !this.#closed) killGroup(group, 'SIGKILL');
      reject(new AppError('internal', reason));
    }
  }

  #hear(line: string): void {
    const answer = answerSchema.parse(JSON.parse(line));
    const { id, started, failed } = answer;
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    if (started !== undefined) {
      waiting.group = started;
      if (waiting.signal !== undefined) killGroup(started, waiting.signal);
      return;
    }
    this.#settle(id);
    if (failed === undefined) waiting.resolve(answer);
    else waiting.reject(failure(failed));
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }
}

function programEnd(ended: Answer['ended']): ProgramEnd {
  if (ended === undefined) throw new AppError('internal', 'a program has ended without saying how');
  return ended;
}

/** With the name of the kernel's error as the code of its cause. */
function failure({ message, errno }: NonNullable<Answer['failed']>): AppError {
  const cause = errno === null ? undefined : { code: getSystemErrorName(-errno) };
  return new AppError('internal', message, { cause });
}

function killGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch (error) {
    if (!hasCode(error, 'ESRCH')) throw error;
  }
}
