import * as http2 from 'node:http2';
import { Code, ConnectError, type Client } from '@connectrpc/connect';
import { Agent } from './gen/agent/v1/agent_pb.js';
import { AppError } from '../platform/errors.ts';
import type { GrpcConnection } from './grpc-call.ts';
import { grpcClient } from './grpc-client.ts';
import { openConnection, type GuestSockets } from './handshake.ts';

/**
 * Flow control window of one stream. Each update of it interrupts the guest's processor while a container
 * writes; what is under way delays other calls. docs/benchmarks.md has what other sizes gave.
 */
const streamWindowBytes = 256 * 1024;
/** A whole record of output, so that it is written to the port at once. */
const maxFrameBytes = 64 * 1024;
const connectionWindowBytes = 16 * 1024 * 1024;
const maxMessageBytes = 17 * 1024 * 1024;

/**
 * One HTTP/2 connection with the agent, from handshake to loss. It sends no keep-alive pings and has
 * no idle time-out: a pooled VM is paused for hours with its connection open.
 */
export class AgentSession implements GrpcConnection {
  readonly client: Client<typeof Agent>;
  /** Resolves with the reason once the connection is gone. Never rejects. */
  readonly lost: Promise<string>;
  readonly #http2: http2.ClientHttp2Session;
  readonly #lost = Promise.withResolvers<string>();
  readonly #end: (reason: string) => void;
  #reason: string | undefined;

  private constructor(session: http2.ClientHttp2Session, closePorts: () => void) {
    this.#http2 = session;
    this.lost = this.#lost.promise;
    const end = (reason: string): void => {
      if (this.#reason !== undefined) return;
      this.#reason = reason;
      // Destroyed without an error, its streams would end without one, and their calls not at all.
      session.destroy(new ConnectError(reason, Code.Unavailable), http2.constants.NGHTTP2_CANCEL);
      closePorts();
      this.#lost.resolve(reason);
    };
    session.once('connect', () => {
      if (!session.destroyed) session.setLocalWindowSize(connectionWindowBytes);
    });
    session.on('error', (error: Error) => {
      end(error.message);
    });
    session.on('goaway', (code) => {
      end(`agent went away (${String(code)})`);
    });
    session.on('close', () => {
      end('closed');
    });
    this.#end = end;
    this.client = grpcClient(Agent, this, maxMessageBytes);
  }

  /** Rejects with `unavailable`. */
  static async open(sockets: GuestSockets, handshakeTimeoutMs: number): Promise<AgentSession> {
    const { data, reset } = await openConnection(sockets, handshakeTimeoutMs);
    const session = http2.connect('http://agent', {
      createConnection: () => data,
      settings: { enablePush: false, initialWindowSize: streamWindowBytes, maxFrameSize: maxFrameBytes },
    });
    data.once('close', () => {
      session.destroy();
    });
    reset.once('close', () => {
      session.destroy();
    });
    const opened = new AgentSession(session, () => {
      data.destroy();
      reset.destroy();
    });
    data.once('close', () => {
      opened.#end('data port closed');
    });
    reset.once('close', () => {
      opened.#end('reset port closed');
    });
    // Requests that are made before this and then lost with the session would never end.
    const connected = new Promise<undefined>((resolve) =>
      session.once('connect', () => {
        resolve(undefined);
      }),
    );
    const reason = await Promise.race([connected, opened.lost]);
    if (reason !== undefined) throw new AppError('unavailable', `guest agent at ${sockets.data}: ${reason}`);
    return opened;
  }

  get lossReason(): string | undefined {
    return this.#reason ?? (this.#http2.destroyed || this.#http2.closed ? 'connection is closed' : undefined);
  }

  request(headers: http2.OutgoingHttpHeaders): http2.ClientHttp2Stream {
    return this.#http2.request(headers);
  }

  close(): void {
    this.#end('closed');
  }
}
