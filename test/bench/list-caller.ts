import { Client, credentials } from '@grpc/grpc-js';
import { clientOptions } from '../../src/cri/client.ts';

const timeoutMs = 60_000;

/** Lists of the CRI, by name. */
export type ListName = 'ListPodSandbox' | 'ListContainers' | 'ListContainerStats' | 'ListPodSandboxStats';

/**
 * Calls without a filter whose answers stay bytes: what a client does to make something of some
 * hundred kilobytes is its own matter.
 */
export class ListCaller implements Disposable {
  readonly #client: Client;

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), clientOptions);
  }

  /** Bytes of the answer. */
  async call(name: ListName): Promise<number> {
    const turn = Promise.withResolvers<number>();
    this.#client.makeUnaryRequest<Uint8Array, Buffer>(
      `/runtime.v1.RuntimeService/${name}`,
      (request) => Buffer.from(request),
      (bytes) => bytes,
      // A message whose fields all have their defaults.
      new Uint8Array(),
      { deadline: Date.now() + timeoutMs },
      (error, response) => {
        if (error !== null) turn.reject(error);
        else turn.resolve(response?.length ?? 0);
      },
    );
    return await turn.promise;
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
