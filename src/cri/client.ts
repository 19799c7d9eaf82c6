import { Client, credentials, type ServiceDefinition, type ServiceError } from '@grpc/grpc-js';
import { criServices } from './proto.ts';

/** A message as the loader makes it, see gen/cri-types.ts. */
export type Message = Readonly<Record<string, unknown>>;

/** A call under way. */
export interface PendingCall {
  readonly response: Promise<Message>;
  readonly cancel: () => void;
}

const maxMessageBytes = 16 * 1024 * 1024;

/** A client of any CRI runtime on a unix socket: for `kelyfos run` and for tests. */
export class CriClient {
  readonly #client: Client;
  readonly #definitions = criServices();

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': maxMessageBytes,
      'grpc.max_send_message_length': maxMessageBytes,
      // The default is the socket's path, which servers may not take for a host.
      'grpc.default_authority': 'localhost',
    });
  }

  /** A call of RuntimeService; rejects with a grpc-js ServiceError. */
  runtime(rpc: string, request: object, timeoutMs?: number): Promise<Message> {
    return this.#unary(this.#definitions.runtime, rpc, request, timeoutMs).response;
  }

  /** A call of ImageService. */
  image(rpc: string, request: object, timeoutMs?: number): Promise<Message> {
    return this.#unary(this.#definitions.image, rpc, request, timeoutMs).response;
  }

  /** A call of either service that can be cancelled. */
  start(rpc: string, request: object): PendingCall {
    const { runtime, image } = this.#definitions;
    return this.#unary(rpc in runtime ? runtime : image, rpc, request, undefined);
  }

  /** All messages of a streaming call of either service. */
  async stream(rpc: string, request: object): Promise<readonly Message[]> {
    const { runtime, image } = this.#definitions;
    const method = methodOf(rpc in runtime ? runtime : image, rpc);
    const call = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize as (bytes: Buffer) => Message,
      request,
    );
    const messages: Message[] = [];
    for await (const message of call) messages.push(message as Message);
    return messages;
  }

  #unary(service: ServiceDefinition, rpc: string, request: object, timeoutMs: number | undefined): PendingCall {
    const method = methodOf(service, rpc);
    const turn = Promise.withResolvers<Message>();
    const call = this.#client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize as (bytes: Buffer) => Message,
      request,
      timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
      (error: ServiceError | null, response?: Message) => {
        if (error !== null) turn.reject(error);
        else turn.resolve(response ?? {});
      },
    );
    return {
      response: turn.promise,
      cancel: () => {
        call.cancel();
      },
    };
  }

  close(): void {
    this.#client.close();
  }
}

function methodOf(service: ServiceDefinition, rpc: string): ServiceDefinition[string] {
  const method = service[rpc];
  if (method === undefined) throw new Error(`the CRI has no call ${rpc}`);
  return method;
}
