import { createWebSocketStream, type WebSocket } from 'ws';
import { AppError } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';
import type { CommandOutcome } from './command-outcome.ts';
import { webSocketCommandProtocols } from './command-protocol.ts';
import { type CommandDomain, runCommand } from './command-session.ts';
import { forwardPort, type PortForwardDomain } from './forward-port.ts';
import { serveSpdyPortForward } from './spdy-session.ts';
import type { CommandRequest, PortForwardRequest } from './stream-request.ts';
import type { ChannelEncoding } from './websocket/channel-codec.ts';
import { Channels } from './websocket/channels.ts';

/** SPDY/3.1 as the bytes of a WebSocket connection, which passes where SPDY does not. */
export const tunnelProtocol = 'SPDY/3.1+portforward.k8s.io';

/** The empty name stands for a client that names none. */
export const webSocketPortForwardProtocols: readonly string[] = [
  tunnelProtocol,
  'v4.channel.k8s.io',
  'v4.base64.channel.k8s.io',
  '',
];

const channelOf = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;

function encodingOf(protocol: string): ChannelEncoding {
  return protocol.includes('base64') ? 'base64' : 'binary';
}

/** exec or attach in WebSocket messages. */
export async function serveWebSocketCommand(
  socket: WebSocket,
  name: string,
  request: CommandRequest,
  domain: CommandDomain,
  signal: AbortSignal,
  log: Log,
): Promise<CommandOutcome> {
  const protocol = webSocketCommandProtocols.get(name);
  if (protocol === undefined) throw new AppError('internal', `WebSocket protocol "${name}"`);
  const { stdin, stdout, stderr, tty } = request.streams;
  const channels = new Channels(socket, {
    encoding: encodingOf(name),
    readable: [...(stdin ? [channelOf.stdin] : []), ...(tty ? [channelOf.resize] : [])],
    closable: protocol.closable,
  });
  const stream = (name: keyof typeof channelOf, asked: boolean) =>
    asked ? channels.channel(channelOf[name]) : undefined;
  // Some clients take the first message for the sign that all is well, and show it: so it is empty.
  const first = stdout ? channelOf.stdout : stderr ? channelOf.stderr : channelOf.error;
  channels.send(first, Buffer.alloc(0), () => undefined);
  const outcome = await runCommand(
    request,
    {
      protocol,
      stdin: stream('stdin', stdin),
      stdout: stream('stdout', stdout),
      stderr: stream('stderr', stderr),
      resize: stream('resize', tty),
      error: channels.channel(channelOf.error),
      gone: channels.gone,
    },
    domain,
    signal,
    log,
  );
  channels.end();
  return outcome;
}

/** Two bytes, the lower one first: how each channel of a forwarded port begins. */
function portPrefix(port: number): Buffer {
  const prefix = Buffer.alloc(2);
  prefix.writeUInt16LE(port);
  return prefix;
}

/**
 * Forwards one connection to each port that was asked for, the first one on channels 0 (data) and 1
 * (error), the next one on 2 and 3; or any number of them in a SPDY connection inside.
 */
export async function serveWebSocketPortForward(
  socket: WebSocket,
  name: string,
  request: PortForwardRequest,
  domain: PortForwardDomain,
  signal: AbortSignal,
  log: Log,
): Promise<void> {
  if (name === tunnelProtocol) {
    await serveSpdyPortForward(createWebSocketStream(socket), request, domain, signal, log);
    return;
  }
  const { sandboxId, ports } = request;
  const channels = new Channels(socket, {
    encoding: encodingOf(name),
    readable: ports.map((_, index) => index * 2),
    closable: false,
  });
  await Promise.all(
    ports.map(async (port, index) => {
      const [data, error] = [channels.channel(index * 2), channels.channel(index * 2 + 1)];
      for (const channel of [data, error]) channel.write(portPrefix(port));
      await forwardPort({ sandboxId, port, data, error }, domain, AbortSignal.any([signal, channels.gone]), log);
    }),
  );
  channels.end();
}
