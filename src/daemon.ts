import type { RunningDaemon } from './cli/daemon-command.ts';
import type { LoadedConfig } from './config/load.ts';
import { AppError } from './platform/errors.ts';
import type { Log } from './platform/log.ts';

/** Builds the services from the configuration and serves CRI. The root is locked already. */
export async function startDaemon(_loaded: LoadedConfig, _log: Log): Promise<RunningDaemon> {
  throw new AppError('unimplemented', 'the daemon is not wired yet');
}
