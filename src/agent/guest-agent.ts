import { setTimeout as delay } from 'node:timers/promises';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { CallOptions, Client } from '@connectrpc/connect';
import { abortError, AppError, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { fromAgent, isConnectionLoss } from './agent-errors.ts';
import type {
  Agent,
  ConfigureSandboxRequestSchema,
  ConfigureSandboxResponse,
  ContainerInfo,
  CreateContainerRequestSchema,
  CreateContainerResponse,
  ExecRequestSchema,
  ExecResponse,
  HelloResponse,
  OutputRecord,
  OutputRequestSchema,
  ResourcesSchema,
  PortForwardRequestSchema,
  PortForwardResponse,
  UpdateContainerRequestSchema,
  StatsResponse,
  WriteStdinRequestSchema,
} from './gen/agent/v1/agent_pb.js';
import type { GuestSockets } from './handshake.ts';
import { AgentSession } from './session.ts';

/** First answer after a reconnect; see openConnection for why it is short. */
const handshakeTimeoutMs = 1_500;
/** A guest that takes longer than this for one call hangs, even under emulation. */
const callTimeoutMs = 60_000;
const firstRetryMs = 20;
const lastRetryMs = 1_000;

/** Version of proto/agent that both sides must speak. */
const protocol = 1;

/**
 * The host's end of one guest agent: keeps one session open, makes a new one when it is lost, and
 * lets calls wait meanwhile. Idempotent calls are repeated after a loss; the others fail with
 * `unavailable`. Every method throws AppError.
 */
export class GuestAgent {
  readonly #sockets: GuestSockets;
  readonly #log: Log;
  readonly #closed = new AbortController();
  #session: Promise<AgentSession>;

  private constructor(sockets: GuestSockets, log: Log) {
    this.#sockets = sockets;
    this.#log = log;
    this.#session = this.#open();
    // Nobody may be waiting when the agent is closed before it ever answered.
    this.#session.catch(() => undefined);
  }

  /** Returns at once; calls wait for the connection. */
  static connect(sockets: GuestSockets, log: Log): GuestAgent {
    return new GuestAgent(sockets, log);
  }

  /** Gives the ports up. Running and later calls fail with `unavailable`. Needed before the VM is frozen into a template. */
  async close(): Promise<void> {
    this.#closed.abort(new AppError('unavailable', `guest agent at ${this.#sockets.data} was closed`));
    await this.#session.then(
      (session) => {
        session.close();
        return session.lost;
      },
      () => undefined,
    );
  }

  /** Resolves once there is a connection: the agent has answered the handshake. */
  async connected(signal?: AbortSignal): Promise<void> {
    const limit = this.#limits(signal);
    try {
      await this.#client(limit, 'handshake');
    } catch (error) {
      throw this.#explain(error, 'handshake', limit);
    }
  }

  // ---------------------------------------------------------------- calls

  hello(signal?: AbortSignal): Promise<HelloResponse> {
    return this.#repeat('Hello', signal, async (client, options) => {
      const answer = await client.hello({}, options);
      if (answer.protocol !== protocol) {
        throw new AppError(
          'failed-precondition',
          `guest agent ${answer.agentVersion} speaks protocol ${String(answer.protocol)}, this daemon ${String(protocol)}`,
        );
      }
      return answer;
    });
  }

  configureSandbox(
    request: MessageInitShape<typeof ConfigureSandboxRequestSchema>,
    signal?: AbortSignal,
  ): Promise<ConfigureSandboxResponse> {
    return this.#repeat('ConfigureSandbox', signal, (client, options) => client.configureSandbox(request, options));
  }

  /** Moves the guest's clock; the guest's time afterwards. Not repeated: it may have taken effect. */
  async adjustClock(deltaNs: bigint, signal?: AbortSignal): Promise<bigint> {
    const answer = await this.#once('AdjustClock', signal, (client, options) =>
      client.adjustClock({ deltaNs }, options),
    );
    return answer.clockNs;
  }

  createContainer(
    request: MessageInitShape<typeof CreateContainerRequestSchema>,
    signal?: AbortSignal,
  ): Promise<CreateContainerResponse> {
    return this.#repeat('CreateContainer', signal, (client, options) => client.createContainer(request, options));
  }

  /** The guest keeps the disk mounted for its containers only, not for the next one. */
  async forgetImage(disk: string, signal?: AbortSignal): Promise<void> {
    await this.#repeat('ForgetImage', signal, (client, options) => client.forgetImage({ disk }, options));
  }

  /** When the container's program was executed, in nanoseconds since the epoch. */
  async startContainer(id: string, signal?: AbortSignal): Promise<bigint> {
    const answer = await this.#repeat('StartContainer', signal, (client, options) =>
      client.startContainer({ id }, options),
    );
    return answer.startedAtNs;
  }

  /** All limits given or none of them: see UpdateContainer in proto/agent. */
  async updateContainer(
    request: MessageInitShape<typeof UpdateContainerRequestSchema>,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#repeat('UpdateContainer', signal, (client, options) => client.updateContainer(request, options));
  }

  /** Limits of all containers together. */
  async updateSandbox(resources: MessageInitShape<typeof ResourcesSchema>, signal?: AbortSignal): Promise<void> {
    await this.#repeat('UpdateSandbox', signal, (client, options) => client.updateSandbox({ resources }, options));
  }

  /** False when the process had already exited. */
  async signalContainer(id: string, signalNumber: number, all: boolean, signal?: AbortSignal): Promise<boolean> {
    const request = { id, signal: signalNumber, all };
    const answer = await this.#repeat('SignalContainer', signal, (client, options) =>
      client.signalContainer(request, options),
    );
    return answer.delivered;
  }

  async removeContainer(id: string, signal?: AbortSignal): Promise<void> {
    await this.#repeat('RemoveContainer', signal, (client, options) => client.removeContainer({ id }, options));
  }

  async listContainers(signal?: AbortSignal): Promise<readonly ContainerInfo[]> {
    const answer = await this.#repeat('ListContainers', signal, (client, options) =>
      client.listContainers({}, options),
    );
    return answer.containers;
  }

  /** Resource use of all containers; `descriptors`: open files and sockets too, which takes longer. */
  stats(descriptors: boolean, signal?: AbortSignal): Promise<StatsResponse> {
    return this.#repeat('Stats', signal, (client, options) => client.stats({ descriptors }, options));
  }

  async trim(dropCaches: boolean, signal?: AbortSignal): Promise<void> {
    await this.#repeat('Trim', signal, (client, options) => client.trim({ dropCaches }, options));
  }

  async shutdown(signal?: AbortSignal): Promise<void> {
    await this.#once('Shutdown', signal, (client, options) => client.shutdown({}, options));
  }

  /**
   * Records of one container on the current session; ends after the record that has `exit`, and
   * throws `unavailable` when the connection is lost: open it again then, the agent repeats what was
   * not acknowledged.
   */
  output(
    requests: AsyncIterable<MessageInitShape<typeof OutputRequestSchema>>,
    signal: AbortSignal,
  ): AsyncIterable<OutputRecord> {
    return this.#stream('Output', signal, (client, options) => client.output(requests, options));
  }

  /** Not repeated: the command may have run. Aborting kills what it started. */
  exec(
    requests: AsyncIterable<MessageInitShape<typeof ExecRequestSchema>>,
    signal: AbortSignal,
  ): AsyncIterable<ExecResponse> {
    return this.#stream('Exec', signal, (client, options) => client.exec(requests, options));
  }

  /**
   * Resolves when the requests have ended and are written, or when the container reads no more. Has no
   * time-out of its own. Not repeated: some of it may have arrived.
   */
  async writeStdin(
    requests: AsyncIterable<MessageInitShape<typeof WriteStdinRequestSchema>>,
    signal: AbortSignal,
  ): Promise<void> {
    const limit = AbortSignal.any([this.#closed.signal, signal]);
    try {
      await (await this.#client(limit, 'WriteStdin')).writeStdin(requests, { signal: limit });
    } catch (error) {
      throw this.#explain(error, 'WriteStdin', limit);
    }
  }

  async resizeTty(id: string, width: number, height: number, signal?: AbortSignal): Promise<void> {
    await this.#repeat('ResizeTty', signal, (client, options) => client.resizeTty({ id, width, height }, options));
  }

  /** Not repeated: there is another connection in the pod then. Aborting resets the connection. */
  portForward(
    requests: AsyncIterable<MessageInitShape<typeof PortForwardRequestSchema>>,
    signal: AbortSignal,
  ): AsyncIterable<PortForwardResponse> {
    return this.#stream('PortForward', signal, (client, options) => client.portForward(requests, options));
  }

  // ---------------------------------------------------------------- connection

  async #open(): Promise<AgentSession> {
    for (let pauseMs = firstRetryMs; ; pauseMs = Math.min(pauseMs * 2, lastRetryMs)) {
      this.#closed.signal.throwIfAborted();
      try {
        const session = await AgentSession.open(this.#sockets, handshakeTimeoutMs);
        if (this.#closed.signal.aborted) session.close();
        else
          void session.lost.then((reason) => {
            this.#onLost(reason);
          });
        return session;
      } catch (error) {
        this.#log.debug({ err: error }, 'guest agent does not answer yet');
        await delay(pauseMs, undefined, { signal: this.#closed.signal }).catch(() => undefined);
      }
    }
  }

  #onLost(reason: string): void {
    if (this.#closed.signal.aborted) return;
    this.#log.debug({ reason }, 'connection to the guest agent was lost, opening another');
    this.#session = this.#open();
    // Nobody may be waiting right now; whoever calls next sees the rejection of a closed agent.
    this.#session.catch(() => undefined);
  }

  async #client(signal: AbortSignal, call: string): Promise<Client<typeof Agent>> {
    const stop = Promise.withResolvers<never>();
    const onAbort = (): void => {
      stop.reject(abortError(signal, `guest agent: ${call}: waiting for the connection`));
    };
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return (await Promise.race([this.#session, stop.promise])).client;
    } finally {
      signal.removeEventListener('abort', onAbort);
      stop.promise.catch(() => undefined);
    }
  }

  #limits(signal: AbortSignal | undefined): AbortSignal {
    const signals = [this.#closed.signal, AbortSignal.timeout(callTimeoutMs)];
    return AbortSignal.any(signal === undefined ? signals : [...signals, signal]);
  }

  async #once<T>(
    call: string,
    signal: AbortSignal | undefined,
    run: (client: Client<typeof Agent>, options: CallOptions) => Promise<T>,
  ): Promise<T> {
    const limit = this.#limits(signal);
    try {
      return await run(await this.#client(limit, call), { signal: limit });
    } catch (error) {
      throw this.#explain(error, call, limit);
    }
  }

  async #repeat<T>(
    call: string,
    signal: AbortSignal | undefined,
    run: (client: Client<typeof Agent>, options: CallOptions) => Promise<T>,
  ): Promise<T> {
    const limit = this.#limits(signal);
    for (;;) {
      const session = this.#session;
      try {
        return await run(await this.#client(limit, call), { signal: limit });
      } catch (error) {
        if (limit.aborted || error instanceof AppError || !isConnectionLoss(error))
          throw this.#explain(error, call, limit);
        this.#log.debug({ call, reason: messageOf(error) }, 'repeating a call to the guest agent');
        // The call can fail a tick before the session is seen as lost.
        if (session === this.#session) await delay(firstRetryMs);
      }
    }
  }

  async *#stream<T>(
    call: string,
    signal: AbortSignal,
    run: (client: Client<typeof Agent>, options: CallOptions) => AsyncIterable<T>,
  ): AsyncIterable<T> {
    const limit = AbortSignal.any([this.#closed.signal, signal]);
    try {
      yield* run(await this.#client(limit, call), { signal: limit });
    } catch (error) {
      throw this.#explain(error, call, limit);
    }
  }

  #explain(error: unknown, call: string, limit: AbortSignal): AppError {
    if (this.#closed.signal.aborted)
      return new AppError('unavailable', `guest agent: ${call}: connection closed`, { cause: error });
    if (limit.aborted) return abortError(limit, `guest agent: ${call}`);
    return fromAgent(error, call);
  }
}
