import { lstat } from 'node:fs/promises';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { wrap } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { archiveService, archiveServiceDefinition } from './archives/service.ts';
import { withEncodedItems } from './encoded-items.ts';
import { implementation } from './implementation.ts';
import { mixedHandlers } from './mixed/handlers.ts';
import { criServices } from './proto.ts';
import type { CriServices } from './services.ts';
import { claimSocketPath, publishSocket, temporarySocketPath, withdrawSocket } from './socket.ts';

/** What clients accept, and what a list of some thousand containers needs; the default is 4 MiB. */
const maxMessageBytes = 16 * 1024 * 1024;

export interface CriServer {
  /**
   * Stops accepting, gives calls in flight `graceMs`, then ends them; what they work on gets its
   * signal. Pods are left alone.
   */
  close(graceMs: number): Promise<void>;
}

/** Serves CRI v1, and images as archives, on a unix socket of mode 0600. Ready to answer when this resolves. */
export async function serveCri(path: string, services: CriServices, log: Log): Promise<CriServer> {
  const definitions = criServices();
  const server = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
  });
  const mixed = services.host === undefined ? undefined : mixedHandlers(services, services.host);
  for (const definition of [withEncodedItems(definitions.runtime), definitions.image]) {
    server.addService(definition, implementation(definition, services, log, mixed));
  }
  server.addService(archiveServiceDefinition(), archiveService(services, log));

  await claimSocketPath(path);
  const temporary = temporarySocketPath(path);
  await bind(server, temporary).catch((error: unknown) => {
    throw wrap(error, `cannot listen on ${path}`);
  });
  const { ino } = await lstat(temporary, { bigint: true });
  await publishSocket(temporary, path);

  return {
    close: async (graceMs) => {
      await withdrawSocket(path, ino);
      await shutdown(server, graceMs);
    },
  };
}

async function bind(server: Server, path: string): Promise<void> {
  const turn = Promise.withResolvers<undefined>();
  server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
    if (error === null) turn.resolve(undefined);
    else turn.reject(error);
  });
  await turn.promise;
}

async function shutdown(server: Server, graceMs: number): Promise<void> {
  const turn = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => {
    server.forceShutdown();
    turn.resolve(undefined);
  }, graceMs);
  server.tryShutdown(() => {
    turn.resolve(undefined);
  });
  await turn.promise;
  clearTimeout(timer);
}
