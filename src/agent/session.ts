import * as http2 from 'node:http2';
import { Code, ConnectError, createClient, type Client } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { Agent } from './gen/agent/v1/agent_pb.js';
import { openConnection, type GuestSockets } from './handshake.ts';

/** Flow control window of one stream: larger ones cost latency beside a busy stream and gain nothing. */
const streamWindowBytes = 64 * 1024;
const connectionWindowBytes = 16 * 1024 * 1024;
const maxMessageBytes = 17 * 1024 * 1024;

/**
 * One HTTP/2 connection with the agent, from handshake to loss. It sends no keep-alive pings and has
 * no idle time-out: a pooled VM is paused for hours with its connection open.
 */
export class AgentSession {
  readonly client: Client<typeof Agent>;
  /** Resolves with the reason once the connection is gone. Never rejects. */
  readonly lost: Promise<string>;
  readonly #http2: http2.ClientHttp2Session;
  readonly #lost = Promise.withResolvers<string>();
  #reason: string | undefined;

  private constructor(session: http2.ClientHttp2Session, closePorts: () => void) {
    this.#http2 = session;
    this.lost = this.#lost.promise;
    const end = (reason: string): void => {
      if (this.#reason !== undefined) return;
      this.#reason = reason;
      session.destroy();
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
    this.client = createClient(
      Agent,
      createGrpcTransport({
        baseUrl: 'http://agent',
        acceptCompression: [],
        readMaxBytes: maxMessageBytes,
        sessionManager: {
          authority: 'http://agent',
          request: (method, path, headers, options) =>
            session.destroyed || session.closed
              ? Promise.reject(new ConnectError(this.#reason ?? 'connection is closed', Code.Unavailable))
              : Promise.resolve(session.request({ ...headers, ':method': method, ':path': path }, options)),
          notifyResponseByteRead: () => undefined,
        },
      }),
    );
  }

  /** Rejects with `unavailable`. */
  static async open(sockets: GuestSockets, handshakeTimeoutMs: number): Promise<AgentSession> {
    const { data, reset } = await openConnection(sockets, handshakeTimeoutMs);
    const session = http2.connect('http://agent', {
      createConnection: () => data,
      settings: { enablePush: false, initialWindowSize: streamWindowBytes },
    });
    data.once('close', () => {
      session.destroy();
    });
    reset.once('close', () => {
      session.destroy();
    });
    return new AgentSession(session, () => {
      data.destroy();
      reset.destroy();
    });
  }

  get isOpen(): boolean {
    return this.#reason === undefined && !this.#http2.destroyed;
  }

  close(): void {
    this.#http2.destroy();
  }
}
