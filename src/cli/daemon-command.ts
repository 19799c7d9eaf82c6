import { flushCompileCache } from 'node:module';
import type { Command } from 'commander';
import { checkHost } from '../config/host-checks.ts';
import type { LoadedConfig } from '../config/load.ts';
import { ConfigError } from '../config/problems.ts';
import { createLog, type Log } from '../platform/log.ts';
import { lockRoot } from '../platform/root-lock.ts';
import { addConfigOptions, type ConfigOptions, loadConfigWith } from './config-options.ts';

/** A daemon that serves. */
export interface RunningDaemon {
  /** Stops serving and lets go of everything, within seconds. Pods go on running. */
  close(): Promise<void>;
}

export type StartDaemon = (loaded: LoadedConfig, log: Log) => Promise<RunningDaemon>;

/** A daemon that has not ended this long after SIGTERM is ended; the next one adopts its pods. */
const closeTimeoutMs = 4_500;

/** `kelyfos daemon`: checks, locks the root, then serves until SIGTERM or SIGINT. */
export function addDaemonCommand(program: Command, start: () => Promise<StartDaemon>): void {
  addConfigOptions(program.command('daemon'))
    .description('serve the Container Runtime Interface on a unix socket')
    .action(async (options: ConfigOptions) => {
      const loaded = await loadConfigWith(options);
      const problems = await checkHost(loaded);
      if (problems.length > 0) throw new ConfigError(problems);
      const log = createLog(loaded.config.logLevel, process.stderr.isTTY);
      // Before anything else that reads or changes the root.
      const lock = await lockRoot(loaded.config.root);
      const stopped = stopSignal(log);
      // Recovery may wait for things that hold no event loop; a daemon ends when it is told to, not before.
      const alive = setInterval(() => undefined, 60_000);
      try {
        const startDaemon = await start();
        const daemon = await startDaemon(loaded, log);
        // Otherwise that waits for an orderly end.
        flushCompileCache();
        await stopped;
        await daemon.close();
      } finally {
        clearInterval(alive);
      }
      lock.release();
      log.info('stopped; pods go on running');
      // Whatever still holds the event loop must not keep a daemon that has closed.
      process.exit(0);
    });
}

/**
 * Resolves with the first request to stop, and sees to it that the process ends soon after it, also
 * when that comes in the middle of the start.
 */
async function stopSignal(log: Log): Promise<void> {
  const turn = Promise.withResolvers<undefined>();
  let asked = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    // Not `once`: execa raises a signal again for which it finds no other listener while a child of it runs.
    process.on(signal, () => {
      if (asked) return;
      asked = true;
      log.info({ signal }, 'stopping');
      setTimeout(() => {
        log.error({ closeTimeoutMs }, 'closing takes too long; ending now, pods go on running');
        process.exit(1);
      }, closeTimeoutMs).unref();
      turn.resolve(undefined);
    });
  }
  await turn.promise;
}
