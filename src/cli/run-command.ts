import type { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { CriClient } from '../cri/client.ts';
import { explainDaemonError } from './daemon-error.ts';
import { PodRun } from './run-pod.ts';
import { parseRunRequest, type RunOptions } from './run-request.ts';

interface CommandOptions extends RunOptions {
  readonly config?: string;
  readonly socket?: string;
  readonly quiet?: boolean;
}

const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value];

/** Exit codes of a program ended by a signal, as shells have them. */
const signalCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** `kelyfos run`: one container in one pod through the daemon's socket, gone when it ends. */
export function addRunCommand(program: Command): void {
  program.enablePositionalOptions();
  program
    .command('run')
    .description('run one container in a pod of its own, like "podman run --rm"; its exit code is passed on')
    .argument('<image>', 'name of the image; pulled when it is not there')
    .argument('[command...]', 'program and arguments, instead of those of the image')
    .option('-e, --env <KEY[=VALUE]>', 'environment variable; without a value that of this environment', collect, [])
    .option('-v, --volume <HOST:CONTAINER[:ro]>', 'folder or file of the host', collect, [])
    .option('-p, --publish <[IP:]HOSTPORT:PORT[/PROTO]>', 'port of the pod on the host', collect, [])
    .option('-l, --label <KEY=VALUE>', 'label of pod and container', collect, [])
    .option('--dns <ADDRESS>', 'name server', collect, [])
    .option('--name <NAME>', 'name of the pod')
    .option('--hostname <NAME>', 'host name in the pod')
    .option('-w, --workdir <DIR>', 'working folder in the container')
    .option('-u, --user <USER[:GID]>', 'name or id to run as')
    .option('--entrypoint <PROGRAM>', 'program to run instead of the entry point of the image')
    .option('-m, --memory <SIZE>', 'memory limit, such as 512MiB')
    .option('--cpus <NUMBER>', 'processors the container may use, such as 1.5')
    .option('--handler <NAME>', 'runtime handler; the default one otherwise')
    .option('--pull <WHEN>', 'missing, always or never', 'missing')
    .option('--read-only', 'root file system read-only')
    .option('--privileged', 'all capabilities and devices of the virtual machine')
    .option('--stop-signal <NAME>', 'signal that asks the program to end')
    .option('--stop-timeout <DURATION>', 'time between that signal and the kill', '10s')
    .option('--timeout <DURATION>', 'stop the container after this time; exit code 124')
    .option('--rm', 'accepted for the sake of habit: nothing is ever left')
    .option('-q, --quiet', 'no progress on the terminal')
    .option('--socket <PATH>', 'socket of the daemon; from the configuration otherwise')
    .option('--config <FILE>', 'configuration file to take the socket from')
    // What follows the image belongs to the container, dashes and all.
    .passThroughOptions()
    .action(async (image: string, command: readonly string[], options: CommandOptions) => {
      // `run IMAGE -- CMD`: options end at the image already, and commander hands the dashes on.
      const argv = command[0] === '--' ? command.slice(1) : command;
      process.exitCode = await runContainer(image, argv, options);
    });
}

async function runContainer(image: string, command: readonly string[], options: CommandOptions): Promise<number> {
  const request = parseRunRequest(image, command, options, process.env);
  const socket = options.socket ?? (await loadConfig(options.config)).config.socket;
  const talks = process.stderr.isTTY && options.quiet !== true;
  const progress = (text: string): void => {
    if (talks) process.stderr.write(`kelyfos: ${text}\n`);
  };
  const client = new CriClient(socket);
  const interrupt = new AbortController();
  let received: keyof typeof signalCodes | undefined;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (received === undefined) progress('stopping and cleaning up');
      received ??= signal;
      interrupt.abort();
    });
  }
  try {
    return await new PodRun(client, request, process, progress).run(interrupt.signal);
  } catch (error) {
    if (received !== undefined) return signalCodes[received];
    throw explainDaemonError(error, socket);
  } finally {
    client.close();
  }
}
