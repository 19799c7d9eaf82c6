import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createWebSocketStream, type WebSocket } from 'ws';
import { AppError, messageOf, wrap } from '../../platform/errors.ts';

/** No answer of a server to an upgrade is longer. */
const maxHeadBytes = 16 * 1024;
const connectTimeoutMs = 10_000;
const internalError = 1011;

/** Passes bytes both ways until both have ended; a side that breaks off ends the other. */
async function join(client: Duplex, server: Socket, signal: AbortSignal): Promise<void> {
  // How a connection breaks off is no news to anybody.
  await Promise.allSettled([pipeline(client, server, { signal }), pipeline(server, client, { signal })]);
}

async function dial({ hostname, port }: URL, signal: AbortSignal): Promise<Socket> {
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const socket = connect({ host, port: Number(port === '' ? 80 : port), allowHalfOpen: true });
  try {
    await once(socket, 'connect', { signal: AbortSignal.any([signal, AbortSignal.timeout(connectTimeoutMs)]) });
  } catch (error) {
    socket.destroy();
    throw wrap(error, `the streaming server at ${host}:${port} does not answer`, 'unavailable');
  }
  socket.setNoDelay(true);
  return socket;
}

/** The request for another server, as the client made it but for the address. */
function requestHead(target: URL, method: string, headers: readonly (readonly [string, string])[]): string {
  const lines = [`Host: ${target.host}`, ...headers.map(([name, value]) => `${name}: ${value}`)];
  return `${method} ${target.pathname}${target.search} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`;
}

function headersOf({ rawHeaders }: IncomingMessage): readonly (readonly [string, string])[] {
  const pairs: [string, string][] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) pairs.push([rawHeaders[at] ?? '', rawHeaders[at + 1] ?? '']);
  return pairs.filter(([name]) => name.toLowerCase() !== 'host');
}

/** Lets the client and another streaming server settle everything between themselves, the upgrade included. */
export async function relayUpgrade(
  target: URL,
  request: IncomingMessage,
  client: Duplex,
  head: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const server = await dial(target, signal);
  server.write(requestHead(target, request.method ?? 'GET', headersOf(request)));
  server.write(head);
  await join(client, server, signal);
}

/** Reads the answer to an upgrade up to its empty line, and leaves the rest in the socket. */
async function upgraded(server: Socket, signal: AbortSignal): Promise<void> {
  let text = Buffer.alloc(0);
  for (;;) {
    await once(server, 'readable', { signal });
    const chunk = server.read() as Buffer | null;
    if (chunk === null) {
      if (server.readableEnded) throw new AppError('unavailable', 'it has closed the connection');
      continue;
    }
    text = Buffer.concat([text, chunk]);
    const end = text.indexOf('\r\n\r\n');
    if (end < 0 && text.length > maxHeadBytes) throw new AppError('internal', 'its answer has no end');
    if (end < 0) continue;
    const [status = ''] = text.toString('latin1', 0, end).split('\r\n');
    if (!status.startsWith('HTTP/1.1 101 ')) throw new AppError('failed-precondition', status);
    if (text.length > end + 4) server.unshift(text.subarray(end + 4));
    return;
  }
}

/** Takes SPDY out of a WebSocket, for a streaming server that speaks it only bare. */
export async function relayTunnel(
  target: URL,
  spdyProtocol: string,
  webSocket: WebSocket,
  signal: AbortSignal,
): Promise<void> {
  const client = createWebSocketStream(webSocket);
  client.on('error', () => undefined);
  try {
    const server = await dial(target, signal);
    server.write(
      requestHead(target, 'POST', [
        ['Connection', 'Upgrade'],
        ['Upgrade', 'SPDY/3.1'],
        ['X-Stream-Protocol-Version', spdyProtocol],
        ['Content-Length', '0'],
      ]),
    );
    try {
      await upgraded(server, AbortSignal.any([signal, AbortSignal.timeout(connectTimeoutMs)]));
    } catch (error) {
      server.destroy();
      throw wrap(error, `the streaming server at ${target.host} refuses the upgrade`);
    }
    await join(client, server, signal);
  } catch (error) {
    webSocket.close(internalError, messageOf(error).slice(0, 120));
    throw error;
  }
}
