import type { Duplex } from 'node:stream';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { PortForwardRequestSchema } from '../../agent/gen/agent/v1/agent_pb.js';
import type { Guest } from '../ports.ts';
import { ClientInput } from './client-input.ts';
import { handOver } from './client-output.ts';

type ForwardMessage = MessageInitShape<typeof PortForwardRequestSchema>;

/**
 * Joins the stream with a connection to a port on localhost in the pod. Each side may end its half and
 * go on to receive. A reset on one side is passed on to the other and is no failure: clients that are
 * told of a failure give up all their connections with the pod.
 */
export async function portForward(
  guest: Pick<Guest, 'portForward'>,
  port: number,
  stream: Duplex,
  signal: AbortSignal,
): Promise<void> {
  const over = new AbortController();
  const onReset = (): void => {
    over.abort();
  };
  stream.once('error', onReset);
  const limit = AbortSignal.any([signal, over.signal]);
  const input = new ClientInput({ data: stream });
  try {
    if (stream.destroyed) return;
    for await (const { data, eof, reset } of guest.portForward(requests(port, input), limit)) {
      await handOver(stream, data, limit);
      if (eof) stream.end();
      if (reset) stream.destroy();
    }
  } catch (error) {
    if (signal.aborted || !over.signal.aborted) throw error;
  } finally {
    stream.off('error', onReset);
    input.end();
    over.abort();
  }
}

async function* requests(port: number, input: ClientInput): AsyncGenerator<ForwardMessage> {
  yield { port };
  for await (const part of input) {
    if (part.kind === 'data') yield { data: part.data };
    else if (part.kind === 'eof') yield { eof: true };
  }
}
