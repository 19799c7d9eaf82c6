import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { execa, type ResultPromise } from 'execa';

const libexec = join(import.meta.dirname, '../../libexec');

/** A program in the foreground of a client: its input can be written, its outputs are collected. */
export type Interaction = ResultPromise<typeof interaction>;

const interaction = { stdin: 'pipe', reject: false, timeout: 90_000, env: { LANG: 'C.UTF-8' } } as const;

/** Starts a program that talks to the streaming server. Killed with the test. */
export function interact(program: string, args: readonly string[]): Interaction {
  return execa(program, args, interaction);
}

export interface LibraryClient {
  readonly name: string;
  readonly program: string;
  readonly transport: 'spdy' | 'websocket';
}

/** Kubernetes' own client library, through test/stream-client. */
export const libraryClients: readonly LibraryClient[] = [
  { name: 'client-go over SPDY', program: join(libexec, 'stream-client'), transport: 'spdy' },
  { name: 'client-go over WebSocket', program: join(libexec, 'stream-client'), transport: 'websocket' },
  { name: 'the oldest client-go', program: join(libexec, 'stream-client-oldest'), transport: 'spdy' },
];

/** The first match in a stream of text, which is read on afterwards. */
export async function waitForText(stream: Readable, pattern: RegExp, timeoutMs = 60_000): Promise<RegExpExecArray> {
  let text = '';
  return await new Promise((resolve, reject) => {
    const fail = (why: string): void => {
      stop();
      reject(new Error(`${why} before it said ${String(pattern)}: ${JSON.stringify(text)}`));
    };
    const onData = (chunk: Buffer): void => {
      text += chunk.toString();
      const match = pattern.exec(text);
      if (match === null) return;
      stop();
      resolve(match);
    };
    const onEnd = (): void => {
      fail('ended');
    };
    const timer = setTimeout(() => {
      fail('timed out');
    }, timeoutMs);
    const stop = (): void => {
      clearTimeout(timer);
      stream.off('data', onData);
      stream.off('end', onEnd);
      stream.resume();
    };
    stream.on('data', onData);
    stream.on('end', onEnd);
  });
}

/** SHA-256 of all that a stream gives, and how much that was. */
export async function checksum(stream: Readable): Promise<{ readonly sum: string; readonly bytes: number }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of stream) {
    hash.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
  }
  return { sum: hash.digest('hex'), bytes };
}

/** One connection with a local port: sends, ends its half, and returns all that comes until the other half ends. */
export async function askPort(port: number, data: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.end(data);
  return await answer(socket);
}

async function answer(socket: Socket): Promise<string> {
  let text = '';
  for await (const chunk of socket) text += (chunk as Buffer).toString();
  return text;
}

/** A port of the loopback that nobody listens on at the moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
