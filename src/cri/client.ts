import { Client, credentials, Metadata, type ServiceDefinition, type ServiceError } from '@grpc/grpc-js';
import type { Outgoing } from './call.ts';
import type { StreamCalls, UnaryCalls } from './calls.ts';
import { criServices } from './proto.ts';

/** A message as the loader makes it, see gen/cri-types.ts. */
export type Message = Readonly<Record<string, unknown>>;

export interface CallOptions {
  /** Default: the client's. */
  readonly timeoutMs?: number | undefined;
  /** Cancels the call, as a kubelet does whose own deadline has passed. */
  readonly signal?: AbortSignal | undefined;
}

const maxMessageBytes = 16 * 1024 * 1024;

export const clientOptions = {
  'grpc.max_receive_message_length': maxMessageBytes,
  'grpc.max_send_message_length': maxMessageBytes,
  // The default is the socket's path, which servers may not take for a host.
  'grpc.default_authority': 'localhost',
  // Found out at once, not after a back-off, that a runtime is there again.
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 200,
  // Two clients of one process are two connections, as two programs are.
  'grpc.use_local_subchannel_pool': 1,
} as const;

/** A client of any CRI runtime on a unix socket, this one's too. Names of calls and fields are those of the API. */
export class CriClient implements Disposable {
  readonly #client: Client;
  readonly #definitions = criServices();
  readonly #timeoutMs: number | undefined;

  /** `timeoutMs`: of each call that does not say otherwise; none without. */
  constructor(socket: string, options: { readonly timeoutMs?: number } = {}) {
    this.#timeoutMs = options.timeoutMs;
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), clientOptions);
  }

  /** A call that answers once; rejects with grpc-js's ServiceError: code, details. */
  async call<Name extends keyof UnaryCalls>(
    name: Name,
    request: Outgoing<UnaryCalls[Name][0]>,
    options: CallOptions = {},
  ): Promise<UnaryCalls[Name][1]> {
    return (await this.#unary(this.#method(name), request, options)) as unknown as UnaryCalls[Name][1];
  }

  /** The messages of a call that answers with many, as they come; ending the loop cancels the call. */
  async *stream<Name extends keyof StreamCalls>(
    name: Name,
    request: Outgoing<StreamCalls[Name][0]>,
    { signal }: Pick<CallOptions, 'signal'> = {},
  ): AsyncGenerator<StreamCalls[Name][1], void, undefined> {
    const method = this.#method(name);
    signal?.throwIfAborted();
    const call = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize as (bytes: Buffer) => StreamCalls[Name][1],
      request,
    );
    const cancel = (): void => {
      call.cancel();
    };
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      for await (const message of call) yield message as StreamCalls[Name][1];
    } finally {
      signal?.removeEventListener('abort', cancel);
      cancel();
    }
  }

  /** A call whose request and answer are taken as they are. */
  untyped(rpc: string, request: object, options: CallOptions = {}): Promise<Message> {
    return this.#unary(this.#method(rpc), request, options);
  }

  /** Resolves once there is a connection; rejects when there is none after `timeoutMs`. */
  async connected(timeoutMs: number): Promise<void> {
    const turn = Promise.withResolvers<undefined>();
    this.#client.waitForReady(Date.now() + timeoutMs, (error) => {
      if (error === undefined) turn.resolve(undefined);
      else turn.reject(error);
    });
    await turn.promise;
  }

  async #unary(
    method: ServiceDefinition[string],
    request: object,
    { timeoutMs = this.#timeoutMs, signal }: CallOptions,
  ): Promise<Message> {
    signal?.throwIfAborted();
    const turn = Promise.withResolvers<Message>();
    const call = this.#client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize as (bytes: Buffer) => Message,
      request,
      new Metadata(),
      timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
      (error: ServiceError | null, response?: Message) => {
        if (error !== null) turn.reject(error);
        else turn.resolve(response ?? {});
      },
    );
    const cancel = (): void => {
      call.cancel();
    };
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      return await turn.promise;
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  #method(rpc: string): ServiceDefinition[string] {
    const method = this.#definitions.runtime[rpc] ?? this.#definitions.image[rpc];
    if (method === undefined) throw new Error(`the CRI has no call ${rpc}`);
    return method;
  }

  close(): void {
    this.#client.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
