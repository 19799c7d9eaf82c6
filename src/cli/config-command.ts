import type { Command } from 'commander';
import { checkHost } from '../config/host-checks.ts';
import { printConfig } from '../config/load.ts';
import { addConfigOptions, type ConfigOptions, loadConfigWith } from './config-options.ts';

/** `kelyfos config`: the effective configuration as TOML; with --check also what the host lacks for it. */
export function addConfigCommand(program: Command): void {
  addConfigOptions(program.command('config'))
    .description('print the effective configuration, as the daemon would take it')
    .option('--check', 'say what this machine lacks for it; exit code 1 if anything')
    .action(async (options: ConfigOptions & { readonly check?: boolean }) => {
      const loaded = await loadConfigWith(options);
      process.stdout.write(printConfig(loaded));
      if (options.check !== true) return;
      const problems = await checkHost(loaded);
      for (const { source, key, text } of problems) process.stderr.write(`${source}: ${key}: ${text}\n`);
      if (problems.length > 0) process.exitCode = 1;
    });
}
