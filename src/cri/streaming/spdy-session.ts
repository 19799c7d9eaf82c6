import type { Duplex } from 'node:stream';
import { AppError, messageOf } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';
import type { CommandProtocol } from './command-protocol.ts';
import { type CommandClient, type CommandDomain, runCommand } from './command-session.ts';
import type { CommandOutcome } from './command-outcome.ts';
import { forwardPort, type PortForwardDomain } from './forward-port.ts';
import { PortForwardPairs } from './port-forward-pairs.ts';
import { SpdyConnection } from './spdy/connection.ts';
import type { SpdyStream } from './spdy/stream.ts';
import { expectedStreams, StreamCollector } from './stream-collector.ts';
import type { CommandRequest, PortForwardRequest } from './stream-request.ts';

/** As in Kubernetes' own server. */
const streamsTimeoutMs = 30_000;
/** How long a client that has been told everything may take to close the connection. */
const closeTimeoutMs = 10_000;

/** Serves `accept` on the transport while `work` is under way, then waits for the client to close. */
async function withConnection<T>(
  transport: Duplex,
  log: Log,
  accept: (stream: SpdyStream) => void,
  work: (connection: SpdyConnection) => Promise<T>,
): Promise<T> {
  const connection = new SpdyConnection(transport, (stream) => {
    try {
      accept(stream);
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'stream refused');
      stream.destroy();
    }
  });
  const served = connection.run().catch((error: unknown) => {
    log.warn({ error: messageOf(error) }, 'spdy connection');
  });
  try {
    return await work(connection);
  } finally {
    // Left to the client: older ones lose what they have not read yet when the server closes.
    const timer = setTimeout(() => transport.destroy(), closeTimeoutMs);
    await served;
    clearTimeout(timer);
  }
}

/** exec or attach over SPDY. */
export async function serveSpdyCommand(
  transport: Duplex,
  request: CommandRequest,
  protocol: CommandProtocol,
  domain: CommandDomain,
  signal: AbortSignal,
  log: Log,
): Promise<CommandOutcome> {
  const collector = new StreamCollector(expectedStreams(request, protocol));
  return withConnection(
    transport,
    log,
    (stream) => {
      collector.add(stream);
    },
    async ({ gone }) => {
      const streams = await collector.all(AbortSignal.any([AbortSignal.timeout(streamsTimeoutMs), gone, signal]));
      const { error, stdin, stdout, stderr, resize } = streams;
      if (error === undefined) throw new AppError('internal', 'no error stream');
      const client: CommandClient = { protocol, error, stdin, stdout, stderr, resize, gone };
      return runCommand(request, client, domain, signal, log);
    },
  );
}

/** Forwards any number of connections over one SPDY connection, until the client closes it. */
export async function serveSpdyPortForward(
  transport: Duplex,
  { sandboxId }: PortForwardRequest,
  domain: PortForwardDomain,
  signal: AbortSignal,
  log: Log,
): Promise<void> {
  const running = new Set<Promise<void>>();
  const ended = new AbortController();
  using pairs = new PortForwardPairs((pair) => {
    const work = forwardPort({ sandboxId, ...pair }, domain, AbortSignal.any([signal, ended.signal]), log);
    running.add(work);
    void work.finally(() => running.delete(work));
  });
  await withConnection(
    transport,
    log,
    (stream) => {
      pairs.add(stream);
    },
    async (connection) => {
      const turn = Promise.withResolvers<undefined>();
      const done = (): void => {
        turn.resolve(undefined);
      };
      AbortSignal.any([signal, connection.gone]).addEventListener('abort', done, { once: true });
      if (signal.aborted || connection.gone.aborted) done();
      await turn.promise;
      ended.abort();
      await Promise.all(running);
      connection.end();
    },
  );
}
