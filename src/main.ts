import { Command } from 'commander';
import { addConfigCommand } from './cli/config-command.ts';
import { addDaemonCommand } from './cli/daemon-command.ts';
import { report } from './cli/fail.ts';
import { addImageCommand } from './cli/image-command.ts';
import { addPoolCommand } from './cli/pool-command.ts';
import { addRunCommand } from './cli/run-command.ts';
import { addTraceCommand } from './cli/trace/trace-command.ts';
import { programVersion } from './version.ts';

const program = new Command('kelyfos')
  .description('A Kubernetes CRI runtime that gives every pod its own virtual machine.')
  .version(programVersion())
  .showHelpAfterError('(kelyfos --help lists commands and options)');

// Loaded when it is needed: the other commands answer at once.
addDaemonCommand(program, async () => (await import('./daemon.ts')).startDaemon);
addRunCommand(program);
addImageCommand(program);
addTraceCommand(program);
addPoolCommand(program);
addConfigCommand(program);

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
