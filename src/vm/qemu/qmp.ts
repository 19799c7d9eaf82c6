import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { AppError, abortError, hasCode, messageOf } from '../../platform/errors.ts';

/** A QMP answer must come within this time: QEMU's main loop does nothing that takes longer. */
const COMMAND_TIMEOUT_MS = 10_000;

const refusal = z.looseObject({ class: z.string(), desc: z.string() });

/** One line from QEMU: the greeting (QMP), an event, or an answer with or without error. */
const message = z.looseObject({
  QMP: z.looseObject({}).optional(),
  event: z.string().optional(),
  data: z.record(z.string(), z.unknown()).optional(),
  id: z.number().optional(),
  error: refusal.optional(),
  return: z.unknown().optional(),
});

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export type QmpArguments = Readonly<Record<string, unknown>>;

/** QEMU understood the command and refused it. */
export class QmpRefusal extends Error {
  override readonly name = 'QmpRefusal';
  readonly errorClass: string;

  constructor(command: string, errorClass: string, description: string) {
    super(`qmp ${command}: ${description}`);
    this.errorClass = errorClass;
  }
}

interface PendingCall {
  readonly command: string;
  readonly timer: NodeJS.Timeout;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * One connection to a QEMU machine protocol socket, past its greeting. Calls are written at once and
 * may overlap: answers are matched by id. When the socket dies every pending call rejects and
 * `closed` resolves; a client is never reused, connect again instead.
 */
export class QmpClient {
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #pending = new Map<number, PendingCall>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #greeting = Promise.withResolvers<undefined>();
  readonly #path: string;
  #nextId = 1;
  #buffered = '';
  #dead: AppError | undefined;

  /** Tries until the socket is there, answers and accepts; QEMU serves one client at a time. */
  static async connect(path: string, signal: AbortSignal): Promise<QmpClient> {
    // A QEMU that has just been started needs some 50 ms; asking is cheap, and this is part of each clone.
    for (let pauseMs = 3; ; pauseMs = Math.min(pauseMs * 1.02, 50)) {
      if (signal.aborted) throw abortError(signal, `connect to qmp ${path}`);
      try {
        return await QmpClient.#attempt(path, signal);
      } catch (error) {
        if (!hasCode(error, 'ENOENT', 'ECONNREFUSED')) throw error;
      }
      await delay(pauseMs);
    }
  }

  static async #attempt(path: string, signal: AbortSignal): Promise<QmpClient> {
    const socket = createConnection({ path });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const client = new QmpClient(socket, path);
    const onAbort = (): void => {
      client.#die(abortError(signal, `wait for the greeting of qmp ${path}`));
    };
    signal.addEventListener('abort', onAbort);
    try {
      if (signal.aborted) onAbort();
      await client.#greeting.promise;
      await client.execute('qmp_capabilities');
    } catch (error) {
      client.close();
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    return client;
  }

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
    // Nobody may be waiting when the socket dies.
    this.#greeting.promise.catch(() => undefined);
    this.closed = new Promise((resolve) =>
      socket.once('close', () => {
        resolve();
      }),
    );
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      this.#receive(chunk);
    });
    socket.on('error', (error) => {
      this.#die(new AppError('unavailable', `qmp ${path}: ${messageOf(error)}`, { cause: error }));
    });
    socket.on('close', () => {
      this.#die(new AppError('unavailable', `qmp ${path}: connection closed`));
    });
  }

  /** Sends a command and resolves with its result. */
  async execute(command: string, args?: QmpArguments, timeoutMs = COMMAND_TIMEOUT_MS): Promise<unknown> {
    if (this.#dead) throw this.#dead;
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      reject(new AppError('deadline', `qmp ${this.#path}: no answer to ${command} within ${String(timeoutMs)} ms`));
    }, timeoutMs);
    this.#pending.set(id, { command, timer, resolve, reject });
    this.#socket.write(`${JSON.stringify({ execute: command, ...(args && { arguments: args }), id })}\n`);
    return promise;
  }

  /** Lends the connection, for what only the owner of a socket can do with it: to send a descriptor along. */
  async withSocket(use: (socket: Socket) => Promise<void>): Promise<void> {
    if (this.#dead) throw this.#dead;
    // No half of a command may be under way.
    if (this.#socket.writableLength > 0) await once(this.#socket, 'drain');
    await use(this.#socket);
  }

  /** Calls back on each event until the returned function is called. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /** The next event that matches. Register before issuing the command that causes it. */
  async waitEvent(matches: (event: QmpEvent) => boolean, what: string, signal: AbortSignal): Promise<QmpEvent> {
    if (this.#dead) throw this.#dead;
    const { promise, resolve, reject } = Promise.withResolvers<QmpEvent>();
    const stop = this.onEvent((event) => {
      if (matches(event)) resolve(event);
    });
    const onAbort = (): void => {
      reject(abortError(signal, `wait for ${what} on qmp ${this.#path}`));
    };
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    void this.closed.then(() => {
      reject(this.#dead ?? new AppError('unavailable', `qmp ${this.#path}: connection closed`));
    });
    try {
      return await promise;
    } finally {
      stop();
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Ends the connection; pending calls reject. QEMU itself goes on. */
  close(): void {
    this.#die(new AppError('unavailable', `qmp ${this.#path}: closed`));
  }

  #receive(chunk: string): void {
    this.#buffered += chunk;
    for (let end = this.#buffered.indexOf('\n'); end >= 0; end = this.#buffered.indexOf('\n')) {
      const line = this.#buffered.slice(0, end).trim();
      this.#buffered = this.#buffered.slice(end + 1);
      if (line !== '') this.#dispatch(line);
    }
  }

  #dispatch(line: string): void {
    let parsed: z.infer<typeof message>;
    try {
      parsed = message.parse(JSON.parse(line));
    } catch (error) {
      this.#die(
        new AppError('internal', `qmp ${this.#path}: not a qmp message: ${line.slice(0, 200)}`, { cause: error }),
      );
      return;
    }
    if (parsed.QMP !== undefined) {
      this.#greeting.resolve(undefined);
    } else if (parsed.event !== undefined) {
      const event = { name: parsed.event, data: parsed.data ?? {} };
      for (const listener of [...this.#listeners]) listener(event);
    } else if (parsed.id !== undefined) {
      this.#settle(parsed.id, parsed.error, parsed.return);
    } else if (parsed.error !== undefined) {
      // Without an id QEMU could not even parse what we sent: nothing can be matched any more.
      this.#die(new AppError('internal', `qmp ${this.#path}: ${parsed.error.desc}`));
    }
  }

  #settle(id: number, error: z.infer<typeof refusal> | undefined, value: unknown): void {
    const call = this.#pending.get(id);
    if (!call) return; // timed out meanwhile
    this.#pending.delete(id);
    clearTimeout(call.timer);
    if (error) call.reject(new QmpRefusal(call.command, error.class, error.desc));
    else call.resolve(value);
  }

  #die(error: AppError): void {
    if (this.#dead) return;
    this.#dead = error;
    this.#greeting.reject(error);
    for (const call of this.#pending.values()) {
      clearTimeout(call.timer);
      call.reject(error);
    }
    this.#pending.clear();
    this.#socket.destroy();
  }
}
