import { drained } from '../drained.ts';
import { Client, credentials, type ServiceDefinition, type ServiceError } from '@grpc/grpc-js';
import { clientOptions } from '../client.ts';
import type { ExportRequest, ExportResponse, ImportedImage, ImportResponse } from './messages.ts';
import { archiveServiceDefinition } from './service.ts';

/** Files come in pieces of some 64 KiB; a message may have 16 MiB. */
export class ArchiveClient implements Disposable {
  readonly #client: Client;
  readonly #definition: ServiceDefinition = archiveServiceDefinition();

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), clientOptions);
  }

  /** `name`: what the daemon calls the archive; `tag`: the image's name instead of the archive's. */
  async import(
    archive: AsyncIterable<Uint8Array>,
    { name, tag = '' }: { readonly name: string; readonly tag?: string | undefined },
    signal: AbortSignal,
  ): Promise<readonly ImportedImage[]> {
    const method = this.#method('Import');
    const turn = Promise.withResolvers<ImportResponse>();
    const call = this.#client.makeClientStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize as (bytes: Buffer) => ImportResponse,
      (error: ServiceError | null, response?: ImportResponse) => {
        if (error !== null) turn.reject(error);
        else turn.resolve(response ?? { images: [] });
      },
    );
    const answered = new AbortController();
    const cancel = (): void => {
      call.cancel();
    };
    signal.addEventListener('abort', cancel, { once: true });
    const send = async (): Promise<void> => {
      const write = async (message: object): Promise<void> => {
        if (!call.write(message)) await drained(call, answered.signal);
      };
      await write({ archive: name, tag });
      for await (const data of archive) {
        // The daemon may have seen enough to say no.
        if (answered.signal.aborted) return;
        await write({ data });
      }
      call.end();
    };
    try {
      const sending = send().catch((error: unknown) => {
        turn.reject(error);
        cancel();
      });
      const { images } = await turn.promise.finally(() => {
        answered.abort();
      });
      await sending;
      return images;
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  /** The bytes of an archive; ending the loop cancels. */
  async *export(request: ExportRequest, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    const method = this.#method('Export');
    const call = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize as (bytes: Buffer) => ExportResponse,
      request,
    );
    const cancel = (): void => {
      call.cancel();
    };
    signal.addEventListener('abort', cancel, { once: true });
    try {
      for await (const message of call) yield (message as ExportResponse).data;
    } finally {
      signal.removeEventListener('abort', cancel);
      cancel();
    }
  }

  #method(name: string): ServiceDefinition[string] {
    const method = this.#definition[name];
    if (method === undefined) throw new Error(`the archive service has no call ${name}`);
    return method;
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
