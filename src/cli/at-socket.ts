import type { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { explainDaemonError } from './daemon-error.ts';

export interface SocketOptions {
  readonly config?: string;
  readonly socket?: string;
}

const failed = 1;

/** For a command that asks a running daemon. */
export function withSocket(command: Command): Command {
  return command
    .option('--socket <PATH>', 'socket of the daemon; from the configuration otherwise')
    .option('--config <FILE>', 'configuration file to take the socket from');
}

/** Interrupted, it cancels what the daemon does for it. */
export async function atSocket(
  { socket: given, config }: SocketOptions,
  work: (socket: string, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const socket = given ?? (await loadConfig(config)).config.socket;
  const interrupt = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      interrupt.abort();
    });
  }
  try {
    await work(socket, interrupt.signal);
  } catch (error) {
    throw explainDaemonError(error, socket, failed);
  } finally {
    // What nobody reads to its end would keep this process.
    process.stdin.destroy();
  }
}
