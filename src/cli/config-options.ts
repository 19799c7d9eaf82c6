import { resolve } from 'node:path';
import type { Command } from 'commander';
import { type ConfigFlags, loadConfig, type LoadedConfig } from '../config/load.ts';

/** What `daemon` and `config` take from the command line. */
export interface ConfigOptions {
  readonly config?: string;
  readonly root?: string;
  readonly state?: string;
  readonly socket?: string;
  readonly logLevel?: string;
}

const absolute = (path: string | undefined): string | undefined => (path === undefined ? undefined : resolve(path));

export function addConfigOptions(command: Command): Command {
  return command
    .option('--config <file>', 'configuration file; config.d/*.toml beside it is read on top', undefined)
    .option('--root <dir>', 'folder for images and records')
    .option('--state <dir>', 'folder for sockets and virtual machines')
    .option('--socket <path>', 'socket to serve CRI on')
    .option('--log-level <level>', 'trace, debug, info, warn or error');
}

/** Paths on the command line are relative to where the user is; those in files are absolute. */
export function loadConfigWith(options: ConfigOptions): Promise<LoadedConfig> {
  const flags: ConfigFlags = {
    root: absolute(options.root),
    state: absolute(options.state),
    socket: absolute(options.socket),
    logLevel: options.logLevel,
  };
  return loadConfig(absolute(options.config), flags);
}
