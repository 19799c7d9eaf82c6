import { setTimeout as delay } from 'node:timers/promises';
import type { Outgoing } from '../cri/call.ts';
import type { StreamCalls, UnaryCalls } from '../cri/calls.ts';
import { abortError, AppError, ForeignError, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { CriCalls } from './cri-calls.ts';

export type HostState = { readonly up: true } | { readonly up: false; readonly since: Date; readonly message: string };

export interface ConnectionLimits {
  /** What a list waits for an answer before it does without. */
  readonly listMs: number;
  /** What a question about one thing waits; the kubelet would wait two minutes. */
  readonly readMs: number;
  /** What a call waits for a connection: longer than a restart takes. */
  readonly connectMs: number;
  /** Between two looks whether a runtime that was down is back. */
  readonly probeMs: number;
}

export const defaultLimits: ConnectionLimits = { listMs: 1_000, readMs: 5_000, connectMs: 5_000, probeMs: 500 };

/** grpc's codes. */
const deadlineExceeded = 4;
const unavailable = 14;

const reads: ReadonlySet<keyof UnaryCalls> = new Set([
  'PodSandboxStatus',
  'ContainerStatus',
  'ContainerStats',
  'PodSandboxStats',
  'ImageStatus',
  'ImageFsInfo',
  'Status',
  'RuntimeConfig',
]);
/** Done twice they do no harm: a restart of the other runtime in the middle of one goes unnoticed. */
const repeatable: ReadonlySet<keyof UnaryCalls> = new Set([
  ...reads,
  'StopPodSandbox',
  'RemovePodSandbox',
  'StopContainer',
  'RemoveContainer',
  'RemoveImage',
  'PullImage',
  'UpdateRuntimeConfig',
]);
const attempts = 3;

interface ServiceError {
  readonly code: number;
  readonly details: string;
}

function isServiceError(error: unknown): error is ServiceError {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'number';
}

/** The connection to the other runtime: notices when it goes and comes, and never lets a list wait for it. */
export class HostConnection {
  readonly #calls: CriCalls;
  readonly #endpoint: string;
  readonly #limits: ConnectionLimits;
  readonly #log: Log;
  readonly #closed = new AbortController();
  #state: HostState = { up: true };
  /** Called when it is there again. */
  onReturn: () => void = () => undefined;

  constructor(calls: CriCalls, endpoint: string, log: Log, limits: ConnectionLimits = defaultLimits) {
    this.#calls = calls;
    this.#endpoint = endpoint;
    this.#log = log;
    this.#limits = limits;
  }

  get endpoint(): string {
    return this.#endpoint;
  }

  get state(): HostState {
    return this.#state;
  }

  /**
   * One call. Its errors come as they are, code and message; without an answer it is `unavailable`. Waits
   * a while for a runtime that restarts.
   */
  async call<Name extends keyof UnaryCalls>(
    name: Name,
    request: Outgoing<UnaryCalls[Name][0]>,
    signal: AbortSignal,
  ): Promise<UnaryCalls[Name][1]> {
    const options = reads.has(name) ? { signal, timeoutMs: this.#limits.readMs } : { signal };
    for (let left = repeatable.has(name) ? attempts : 1; ;) {
      left -= 1;
      await this.#connected(signal);
      try {
        const response = await this.#calls.call(name, request, options);
        this.#isUp();
        return response;
      } catch (error) {
        if (!isServiceError(error)) throw error;
        if (signal.aborted) throw abortError(signal, `${name} of the host runtime`);
        if (error.code === unavailable && left > 0) continue;
        if (error.code === deadlineExceeded && reads.has(name)) throw this.#gone(`${name} is not answered`);
        throw new ForeignError(error.code, error.details, { cause: error });
      }
    }
  }

  /** For lists: the answer, or `unavailable` within about a second, and at once while it is known to be down. */
  async ask<Name extends keyof UnaryCalls>(
    name: Name,
    request: Outgoing<UnaryCalls[Name][0]>,
  ): Promise<UnaryCalls[Name][1]> {
    if (!this.#state.up) throw this.#unavailable(this.#state.message);
    try {
      return await this.#calls.call(name, request, { timeoutMs: this.#limits.listMs });
    } catch (error) {
      if (!isServiceError(error)) throw error;
      if (error.code === unavailable) throw this.#gone(error.details);
      if (error.code === deadlineExceeded) throw this.#gone(`${name} is not answered`);
      throw new ForeignError(error.code, error.details, { cause: error });
    }
  }

  /** A stream that goes on over restarts of the other side; ends with the signal, or when there is no such call. */
  async *stream<Name extends keyof StreamCalls>(
    name: Name,
    request: Outgoing<StreamCalls[Name][0]>,
    signal: AbortSignal,
  ): AsyncGenerator<StreamCalls[Name][1], void, undefined> {
    const unimplemented = 12;
    const until = AbortSignal.any([signal, this.#closed.signal]);
    while (!until.aborted) {
      try {
        yield* this.#calls.stream(name, request, { signal: until });
      } catch (error) {
        if (!isServiceError(error)) throw error;
        if (error.code === unimplemented) {
          this.#log.warn({ endpoint: this.#endpoint }, `the host runtime has no ${name}`);
          return;
        }
        this.#log.debug({ endpoint: this.#endpoint, error: error.details }, `${name} of the host runtime broke off`);
      }
      await delay(this.#limits.probeMs, undefined, { signal: until, ref: false }).catch(() => undefined);
    }
  }

  close(): void {
    this.#closed.abort();
    this.#calls.close();
  }

  async #connected(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { connectMs } = this.#limits;
    try {
      await this.#calls.connected(connectMs);
    } catch (error) {
      throw this.#gone(`no connection within ${String(connectMs)} ms`, error);
    }
    if (signal.aborted) throw abortError(signal, 'connecting to the host runtime');
  }

  #unavailable(message: string, cause?: unknown): AppError {
    return new AppError('unavailable', `the host runtime at ${this.#endpoint} is not there: ${message}`, { cause });
  }

  #gone(message: string, cause?: unknown): AppError {
    if (this.#state.up && !this.#closed.signal.aborted) {
      this.#state = { up: false, since: new Date(), message };
      this.#log.warn({ endpoint: this.#endpoint, error: message }, 'the host runtime is down');
      this.#probe().catch((error: unknown) => {
        this.#log.error({ err: error }, 'looking for the host runtime failed');
      });
    }
    return this.#unavailable(message, cause);
  }

  #isUp(): void {
    if (this.#state.up) return;
    const { since } = this.#state;
    this.#state = { up: true };
    this.#log.info({ endpoint: this.#endpoint, downMs: Date.now() - since.getTime() }, 'the host runtime is back');
    this.onReturn();
  }

  async #probe(): Promise<void> {
    const { probeMs, listMs } = this.#limits;
    const { signal } = this.#closed;
    while (!this.#state.up && !signal.aborted) {
      await delay(probeMs, undefined, { signal, ref: false }).catch(() => undefined);
      try {
        await this.#calls.call('Version', { version: '0.1.0' }, { timeoutMs: listMs, signal });
        this.#isUp();
      } catch (error) {
        this.#log.debug({ endpoint: this.#endpoint, error: messageOf(error) }, 'the host runtime is still down');
      }
    }
  }
}
