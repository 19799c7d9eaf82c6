import type { Duplex, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { AppError, messageOf } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';
import type { Containers, StreamSession } from '../../podsandbox/model.ts';
import { type CommandOutcome, outcomeAsJson, outcomeAsText } from './command-outcome.ts';
import type { CommandProtocol } from './command-protocol.ts';
import { ReadSide } from './read-side.ts';
import type { CommandRequest } from './stream-request.ts';
import { terminalSizes } from './terminal-sizes.ts';

/** A client of exec or attach that is connected with all its streams, whichever the transport. */
export interface CommandClient {
  readonly protocol: CommandProtocol;
  readonly stdin: Duplex | undefined;
  readonly stdout: Duplex | undefined;
  readonly stderr: Duplex | undefined;
  readonly resize: Duplex | undefined;
  /** Where the outcome goes. */
  readonly error: Duplex;
  /** Aborts when the client has gone. */
  readonly gone: AbortSignal;
}

export type CommandDomain = Pick<Containers, 'exec' | 'attach' | 'interactive'>;

/** Resolves when everything is on its way, or can go nowhere. */
async function endWith(stream: Writable, text: string): Promise<void> {
  stream.end(text);
  // An error is the client's going, which ends the session anyway.
  await finished(stream, { readable: false }).catch(() => undefined);
}

async function perform(
  request: CommandRequest,
  session: StreamSession,
  domain: CommandDomain,
  signal: AbortSignal,
): Promise<CommandOutcome> {
  const { containerId } = request;
  if (request.kind === 'exec') return domain.exec(containerId, request.argv, request.streams.tty, session, signal);
  // Throws when it has exited since the client was given its URL.
  if (domain.interactive(containerId).stdin) await domain.attach(containerId, session, signal);
  else {
    session.stdin?.destroy();
    await domain.attach(containerId, { ...session, stdin: undefined }, signal);
  }
  return { exitCode: 0 };
}

/**
 * Runs the command, or attaches, with the client's streams, and tells the client the outcome, after
 * the last of the output. The signal ends it early; so does the client by going away.
 */
export async function runCommand(
  request: CommandRequest,
  client: CommandClient,
  domain: CommandDomain,
  signal: AbortSignal,
  log: Log,
): Promise<CommandOutcome> {
  const { stdin, stdout, stderr, resize, error, protocol } = client;
  const input = stdin === undefined ? undefined : new ReadSide(stdin);
  const session: StreamSession = {
    stdin: input,
    stdout,
    stderr,
    resizes:
      resize === undefined
        ? undefined
        : terminalSizes(resize, (problem) => {
            log.warn({ error: problem }, 'resize');
          }),
  };
  const outcome = await perform(request, session, domain, AbortSignal.any([signal, client.gone])).catch(
    (thrown: unknown): CommandOutcome => {
      // One's own mistakes come with their stack; the client hears of everything.
      if (!(thrown instanceof AppError)) log.error({ err: thrown }, request.kind);
      return { failure: messageOf(thrown) };
    },
  );
  input?.destroy();
  stdin?.end();
  resize?.resume();
  resize?.end();
  await Promise.all([stdout, stderr].map(async (output) => output && endWith(output, '')));
  await endWith(error, protocol.statusAsJson ? outcomeAsJson(outcome) : outcomeAsText(outcome));
  return outcome;
}
