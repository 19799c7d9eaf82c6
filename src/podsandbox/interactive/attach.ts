import type { MessageInitShape } from '@bufbuild/protobuf';
import type { WriteStdinRequestSchema } from '../../agent/gen/agent/v1/agent_pb.js';
import { abortError, messageOf } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';
import type { StreamSession, TerminalSize } from '../model.ts';
import type { Guest } from '../ports.ts';
import { ClientInput } from './client-input.ts';
import { handOver } from './client-output.ts';
import { OutputTap, type OutputChannel, type OutputTaps } from './output-tap.ts';

export interface AttachTarget {
  readonly containerId: string;
  readonly guest: Pick<Guest, 'writeStdin' | 'resizeTty'>;
  /** Through it goes everything that the container writes. */
  readonly pump: OutputTaps;
  readonly tty: boolean;
  /** The end of the first client's input is the end of the container's. */
  readonly stdinOnce: boolean;
  readonly log: Log;
}

/**
 * Joins a client with a container that runs: its output from now on, until it has exited, and the
 * client's input. Resolves before that when the client has said that it sends no more, unless that has
 * ended the container's input too, which may be what it waits for.
 */
export async function attach(target: AttachTarget, session: StreamSession, signal: AbortSignal): Promise<void> {
  const { containerId, pump, tty, stdinOnce } = target;
  const channels = new Set<OutputChannel>();
  if (session.stdout !== undefined) channels.add('stdout');
  if (session.stderr !== undefined && !tty) channels.add('stderr');
  const tap = new OutputTap({ channels });
  const over = new AbortController();
  const limit = AbortSignal.any([signal, over.signal]);
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => {
    aborted.reject(abortError(signal, `attach to container "${containerId}"`));
  };
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  pump.tap(tap);
  const input = new ClientInput({ data: session.stdin });
  try {
    const output = carryOutput(tap, session, limit);
    const said = carryInput(target, input, session, limit).then(() => {
      if (input.eof && !(stdinOnce && !tty)) tap.end();
    });
    if (tty && session.resizes !== undefined) void carrySizes(target, session.resizes, limit);
    // Input that fails ends the session; input that ends does not.
    await Promise.race([output, aborted.promise, said.then(() => output)]);
  } finally {
    signal.removeEventListener('abort', onAbort);
    pump.untap(tap);
    tap.end();
    input.end();
    over.abort();
  }
}

async function carryOutput(tap: OutputTap, session: StreamSession, signal: AbortSignal): Promise<void> {
  for await (const { channel, data } of tap) {
    await handOver(channel === 'stderr' ? session.stderr : session.stdout, data, signal);
    if (signal.aborted) return;
  }
}

async function carryInput(
  { guest, containerId }: AttachTarget,
  input: ClientInput,
  { stdin }: StreamSession,
  signal: AbortSignal,
): Promise<void> {
  if (stdin === undefined) return;
  await guest.writeStdin(requests(containerId, input), signal);
  // The container reads no more, which is no reason to stop a client that writes.
  input.end();
  if (!input.eof) stdin.destroy();
}

async function* requests(
  id: string,
  input: ClientInput,
): AsyncGenerator<MessageInitShape<typeof WriteStdinRequestSchema>> {
  yield { id };
  for await (const part of input) if (part.kind === 'data') yield { data: part.data };
}

async function carrySizes(
  { guest, containerId, log }: AttachTarget,
  sizes: AsyncIterable<TerminalSize>,
  signal: AbortSignal,
): Promise<void> {
  for await (const { width, height } of sizes) {
    if (signal.aborted) return;
    await guest.resizeTty(containerId, width, height, signal).catch((error: unknown) => {
      // The terminal may be about to go, and the session with it.
      log.debug({ containerId, reason: messageOf(error) }, 'resize of a terminal');
    });
  }
}
