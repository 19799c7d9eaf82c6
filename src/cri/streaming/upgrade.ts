import type { IncomingMessage } from 'node:http';
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';

export type Upgrade = 'spdy' | 'websocket';

/** Values of a header that may be given several times, or once with commas. */
export function headerValues(request: IncomingMessage, name: string): readonly string[] {
  return (request.headersDistinct[name] ?? [])
    .flatMap((line) => line.split(','))
    .map((value) => value.trim())
    .filter((value) => value !== '');
}

/** What the client wants to go on with; undefined when it is neither. */
export function wantedUpgrade(request: IncomingMessage): Upgrade | undefined {
  const wanted = headerValues(request, 'upgrade').map((value) => value.toLowerCase());
  if (wanted.includes('websocket')) return 'websocket';
  return wanted.includes('spdy/3.1') ? 'spdy' : undefined;
}

/** Answers on the bare connection and closes it. */
export function refuseUpgrade(
  socket: Duplex,
  status: number,
  text: string,
  headers: readonly (readonly [string, string])[] = [],
): void {
  const body = Buffer.from(`${text}\n`);
  const head = [
    `HTTP/1.1 ${String(status)} ${STATUS_CODES[status] ?? ''}`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
    'Connection: close',
    'Content-Type: text/plain; charset=utf-8',
    `Content-Length: ${String(body.length)}`,
  ];
  socket.end(Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body]));
}

/** The answer after which the connection speaks SPDY; without a protocol for clients that named none. */
export function acceptSpdy(socket: Duplex, protocol: string | undefined): void {
  const head = [
    'HTTP/1.1 101 Switching Protocols',
    'Connection: Upgrade',
    'Upgrade: SPDY/3.1',
    ...(protocol === undefined ? [] : [`X-Stream-Protocol-Version: ${protocol}`]),
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
}
