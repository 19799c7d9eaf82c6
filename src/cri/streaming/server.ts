import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, isIPv6, type Socket } from 'node:net';
import { AppError, messageOf, wrap } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';
import { spdyCommandProtocols, webSocketCommandProtocols } from './command-protocol.ts';
import type { CommandOutcome } from './command-outcome.ts';
import type { CommandDomain } from './command-session.ts';
import type { PortForwardDomain } from './forward-port.ts';
import { type PendingRequest, PendingRequests } from './pending-requests.ts';
import { relayTunnel, relayUpgrade } from './relay.ts';
import { serveSpdyCommand, serveSpdyPortForward } from './spdy-session.ts';
import type { RelayRequest, StreamRequest } from './stream-request.ts';
import { WebSocketUpgrades } from './websocket/upgrades.ts';
import { acceptSpdy, headerValues, refuseUpgrade, wantedUpgrade } from './upgrade.ts';
import {
  serveWebSocketCommand,
  serveWebSocketPortForward,
  tunnelProtocol,
  webSocketPortForwardProtocols,
} from './websocket-session.ts';

/** A connection on which nothing moves for so long is given up, as in Kubernetes' own server. */
const idleTimeoutMs = 4 * 60 * 60_000;
const spdyPortForwardProtocol = 'portforward.k8s.io';
const protocolHeader = 'x-stream-protocol-version';

export interface StreamingOptions {
  /** To listen on. */
  readonly address: string;
  /** 0: any. */
  readonly port: number;
  /** PEM; without it plain HTTP is served. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
}

export interface StreamingDomain {
  readonly containers: CommandDomain;
  readonly sandboxes: PortForwardDomain;
}

/** Where a client can connect to, for as long as a minute, once. */
export interface StreamUrls {
  /** Throws `exhausted` when too many wait to be connected to. */
  urlFor(request: StreamRequest | RelayRequest): string;
}

/** What is answered instead of going on. */
class Refusal extends Error {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];

  constructor(status: number, message: string, headers: readonly (readonly [string, string])[] = []) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

/** The host of a URL at which a local client reaches a server that listens on this address. */
function reachableHost(address: string): string {
  if (address === '0.0.0.0') return '127.0.0.1';
  if (address === '::') return '[::1]';
  return isIPv6(address) ? `[${address}]` : address;
}

/**
 * The HTTP server behind the URLs that Exec, Attach and PortForward answer with. A URL's token is
 * all that a client has to show.
 */
export class StreamingServer implements StreamUrls {
  readonly #server: Server;
  readonly #base: string;
  readonly #domain: StreamingDomain;
  readonly #log: Log;
  readonly #pending = new PendingRequests();
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  readonly #webSockets = new WebSocketUpgrades();

  private constructor(server: Server, base: string, domain: StreamingDomain, log: Log) {
    this.#server = server;
    this.#base = base;
    this.#domain = domain;
    this.#log = log;
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('request', (request: IncomingMessage, response) => {
      const known = this.#find(request.url) !== undefined;
      response.writeHead(known ? 400 : 404, { connection: 'close', 'content-type': 'text/plain; charset=utf-8' });
      response.end(known ? 'an upgrade to SPDY/3.1 or websocket is needed\n' : 'no such request\n');
    });
    server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
      this.#upgrade(request, socket, head);
    });
  }

  /** Listening when this resolves. */
  static async start(options: StreamingOptions, domain: StreamingDomain, log: Log): Promise<StreamingServer> {
    const { address, port, tls } = options;
    const where = `${isIPv6(address) ? `[${address}]` : address}:${String(port)}`;
    try {
      const server = tls === undefined ? createServer() : createTlsServer({ cert: tls.cert, key: tls.key });
      const turn = Promise.withResolvers<undefined>();
      server.once('error', turn.reject);
      server.listen(port, address, () => {
        turn.resolve(undefined);
      });
      await turn.promise;
      const listening = server.address() as AddressInfo;
      const base = `${tls === undefined ? 'http' : 'https'}://${reachableHost(address)}:${String(listening.port)}`;
      return new StreamingServer(server, base, domain, log);
    } catch (error) {
      throw wrap(error, `cannot serve streaming on ${where}`);
    }
  }

  urlFor(request: StreamRequest | RelayRequest): string {
    return `${this.#base}/${request.kind}/${this.#pending.add(request)}`;
  }

  /** Ends the sessions, each with a word to its client, and after `graceMs` the connections. */
  async close(graceMs: number): Promise<void> {
    this.#closing.abort(new AppError('unavailable', 'kelyfos is ending'));
    const closed = new Promise((resolve) => this.#server.close(resolve));
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, graceMs);
    this.#server.closeIdleConnections();
    await Promise.allSettled(this.#sessions);
    await closed;
    clearTimeout(timer);
  }

  /** Takes the request that belongs to a path. */
  #find(path: string | undefined): PendingRequest | undefined {
    const match = /^\/(exec|attach|portforward)\/([A-Za-z0-9_-]{8})(?:\?|$)/.exec(path ?? '');
    const [, kind, token] = match ?? [];
    if (kind === undefined || token === undefined) return undefined;
    return this.#pending.take(kind as StreamRequest['kind'], token);
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    // What the session does not hear of by other means; without a listener it would end the process.
    socket.on('error', () => undefined);
    try {
      const found = this.#find(request.url);
      if (found === undefined) throw new Refusal(404, 'no such request');
      const upgrade = wantedUpgrade(request);
      if (upgrade === undefined) throw new Refusal(400, 'an upgrade to SPDY/3.1 or websocket is needed');
      socket.setNoDelay(true);
      socket.setTimeout(idleTimeoutMs, () => {
        socket.destroy();
      });
      if ('relay' in found) this.#relay(found, request, socket, head);
      else if (upgrade === 'spdy') this.#spdy(found, request, socket, head);
      else this.#webSocket(found, request, socket, head);
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(500, messageOf(error));
      this.#log.warn({ status: refusal.status, error: refusal.message }, 'streaming connection refused');
      refuseUpgrade(socket, refusal.status, refusal.message, refusal.headers);
    }
  }

  #spdy(found: StreamRequest, request: IncomingMessage, socket: Socket, head: Buffer): void {
    const offered = headerValues(request, protocolHeader);
    const known =
      found.kind === 'portforward' ? [spdyPortForwardProtocol] : spdyCommandProtocols.map(({ name }) => name);
    const name = offered.length === 0 ? known.at(-1) : known.find((protocol) => offered.includes(protocol));
    if (name === undefined) {
      throw new Refusal(
        403,
        `none of the protocols ${offered.join(', ')} is known, but ${known.join(', ')}`,
        known.map((protocol) => ['X-Accepted-Stream-Protocol-Versions', protocol]),
      );
    }
    acceptSpdy(socket, offered.length === 0 ? undefined : name);
    if (head.length > 0) socket.unshift(head);
    this.#session(found, socket, `spdy ${name}`, async (signal, log) => {
      if (found.kind === 'portforward') {
        await serveSpdyPortForward(socket, found, this.#domain.sandboxes, signal, log);
        return undefined;
      }
      const protocol = spdyCommandProtocols.find((candidate) => candidate.name === name);
      if (protocol === undefined) throw new AppError('internal', `protocol ${name}`);
      return serveSpdyCommand(socket, found, protocol, this.#domain.containers, signal, log);
    });
  }

  #webSocket(found: StreamRequest, request: IncomingMessage, socket: Socket, head: Buffer): void {
    const offered = headerValues(request, 'sec-websocket-protocol');
    const known = found.kind === 'portforward' ? webSocketPortForwardProtocols : [...webSocketCommandProtocols.keys()];
    // The client's order is its preference.
    const protocol = offered.length === 0 ? '' : offered.find((candidate) => known.includes(candidate));
    if (protocol === undefined) {
      throw new Refusal(
        403,
        `none of the protocols ${offered.join(', ')} is known, but ${known.filter(Boolean).join(', ')}`,
      );
    }
    this.#webSockets.accept(request, socket, head, protocol, (webSocket) => {
      this.#session(found, socket, `websocket ${protocol}`, async (signal, log) => {
        if (found.kind === 'portforward') {
          await serveWebSocketPortForward(webSocket, protocol, found, this.#domain.sandboxes, signal, log);
          return undefined;
        }
        return serveWebSocketCommand(webSocket, protocol, found, this.#domain.containers, signal, log);
      });
    });
  }

  /** What the other server does not speak it gets as what it does; all else is between it and the client. */
  #relay(found: RelayRequest, request: IncomingMessage, socket: Socket, head: Buffer): void {
    if (!headerValues(request, 'sec-websocket-protocol').includes(tunnelProtocol)) {
      this.#session(found, socket, 'relayed', async (signal) => {
        await relayUpgrade(found.relay, request, socket, head, signal);
        return undefined;
      });
      return;
    }
    this.#webSockets.accept(request, socket, head, tunnelProtocol, (webSocket) => {
      this.#session(found, socket, 'relayed websocket', async (signal) => {
        await relayTunnel(found.relay, spdyPortForwardProtocol, webSocket, signal);
        return undefined;
      });
    });
  }

  #session(
    request: PendingRequest,
    socket: Socket,
    protocol: string,
    serve: (signal: AbortSignal, log: Log) => Promise<CommandOutcome | undefined>,
  ): void {
    const ids =
      'relay' in request
        ? { relay: request.relay.host }
        : request.kind === 'portforward'
          ? { sandboxId: request.sandboxId }
          : { containerId: request.containerId };
    const log = this.#log.child({ stream: request.kind, ...ids });
    const started = performance.now();
    log.debug({ protocol }, 'stream connected');
    const work = serve(this.#closing.signal, log).then(
      (outcome) => {
        log.info({ protocol, ms: Math.round(performance.now() - started), ...outcome }, 'stream ended');
      },
      (error: unknown) => {
        log.warn({ protocol, error: messageOf(error) }, 'stream broken off');
        socket.destroy();
      },
    );
    this.#sessions.add(work);
    void work.finally(() => this.#sessions.delete(work));
  }
}
