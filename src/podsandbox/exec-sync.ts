import type { MessageInitShape } from '@bufbuild/protobuf';
import { Channel, type ExecRequestSchema, type ExecResponse } from '../agent/gen/agent/v1/agent_pb.js';
import { AppError } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { ExecResult } from './model.ts';

/** What a client can receive in one message; more is cut off, as the peers do. */
const maxOutputBytes = 16 * 1024 * 1024;
/** Beyond the command's own time-out: for the guest to kill the tree and answer. */
const answerMs = 10_000;
/** The longest a timer of node can wait, 24 days. */
const longestMs = 2 ** 31 - 1;

export interface ExecSource {
  exec(
    requests: AsyncIterable<MessageInitShape<typeof ExecRequestSchema>>,
    signal: AbortSignal,
  ): AsyncIterable<ExecResponse>;
}

export interface ExecSyncRequest {
  readonly containerId: string;
  readonly command: readonly string[];
  /** 0: none. */
  readonly timeoutSeconds: number;
  readonly log: Log;
}

/** Runs a command in a container to its end. `deadline` when its time-out passed; the guest has killed its tree then. */
export async function execSync(source: ExecSource, request: ExecSyncRequest, signal: AbortSignal): Promise<ExecResult> {
  const { containerId, command, timeoutSeconds } = request;
  if (command.length === 0) throw new AppError('invalid', `exec in container "${containerId}": the command is empty`);
  const start: MessageInitShape<typeof ExecRequestSchema> = {
    start: {
      containerId,
      inherit: true,
      process: { argv: [...command] },
      stdio: { stdin: false, tty: false },
      timeoutMs: BigInt(timeoutSeconds) * 1000n,
      resultOnly: true,
    },
  };
  const limit =
    timeoutSeconds > 0
      ? AbortSignal.any([signal, AbortSignal.timeout(Math.min(timeoutSeconds * 1000 + answerMs, longestMs))])
      : signal;
  const output = { stdout: new CappedOutput(), stderr: new CappedOutput() };
  for await (const message of source.exec(only(start), limit)) {
    if (message.data.length > 0) (message.channel === Channel.STDERR ? output.stderr : output.stdout).add(message.data);
    if (message.exit === undefined) continue;
    const { exit } = message;
    if (exit.timedOut)
      throw new AppError('deadline', `command "${command.join(' ')}" timed out after ${String(timeoutSeconds)} s`);
    if (output.stdout.cut || output.stderr.cut) {
      request.log.warn({ containerId }, `output of an ExecSync was cut off at ${String(maxOutputBytes)} bytes`);
    }
    return { stdout: output.stdout.bytes, stderr: output.stderr.bytes, exitCode: exit.code };
  }
  throw new AppError('unavailable', `exec in container "${containerId}" ended without an exit code`);
}

async function* only<T>(message: T): AsyncGenerator<T> {
  await Promise.resolve();
  yield message;
}

class CappedOutput {
  readonly #chunks: Uint8Array[] = [];
  #size = 0;
  cut = false;

  add(data: Uint8Array): void {
    const room = maxOutputBytes - this.#size;
    if (data.length > room) this.cut = true;
    const kept = data.subarray(0, room);
    this.#chunks.push(kept);
    this.#size += kept.length;
  }

  get bytes(): Uint8Array {
    return Buffer.concat(this.#chunks);
  }
}
