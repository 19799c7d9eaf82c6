import type { MessageInitShape } from '@bufbuild/protobuf';
import { Channel, type ExecRequestSchema } from '../../agent/gen/agent/v1/agent_pb.js';
import { AppError } from '../../platform/errors.ts';
import type { StreamSession } from '../model.ts';
import type { Guest } from '../ports.ts';
import { ClientInput } from './client-input.ts';
import { handOver } from './client-output.ts';

type ExecMessage = MessageInitShape<typeof ExecRequestSchema>;

export interface InteractiveExec {
  readonly containerId: string;
  readonly argv: readonly string[];
  readonly tty: boolean;
}

/**
 * Runs a program with a client's streams. The guest ends its whole tree when the signal aborts. Output
 * is read from the guest no faster than the client takes it, and the other way round, so that neither
 * the daemon nor the guest holds more than a window of a stream.
 */
export async function exec(
  guest: Pick<Guest, 'exec'>,
  { containerId, argv, tty }: InteractiveExec,
  session: StreamSession,
  signal: AbortSignal,
): Promise<{ readonly exitCode: number }> {
  const input = new ClientInput({ data: session.stdin, sizes: tty ? session.resizes : undefined });
  // Whichever way this ends, the call must not go on: what is left of it would wait for a reader.
  const over = new AbortController();
  const limit = AbortSignal.any([signal, over.signal]);
  try {
    const start: ExecMessage = {
      start: {
        containerId,
        inherit: true,
        process: { argv: [...argv] },
        stdio: { stdin: session.stdin !== undefined, tty },
      },
    };
    let exitCode: number | undefined;
    for await (const { channel, data, exit } of guest.exec(requests(start, input), limit)) {
      await handOver(channel === Channel.STDERR ? session.stderr : session.stdout, data, limit);
      if (exit === undefined) continue;
      exitCode = exit.code;
      input.end();
    }
    if (exitCode === undefined) {
      throw new AppError('unavailable', `exec in container "${containerId}" ended without an exit code`);
    }
    return { exitCode };
  } finally {
    input.end();
    over.abort();
  }
}

async function* requests(start: ExecMessage, input: ClientInput): AsyncGenerator<ExecMessage> {
  yield start;
  for await (const part of input) {
    switch (part.kind) {
      case 'data':
        yield { stdin: part.data };
        break;
      case 'eof':
        yield { stdinEof: true };
        break;
      case 'size':
        yield { resize: part.size };
        break;
    }
  }
}
