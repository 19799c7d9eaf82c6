import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { CriClient } from '../../cri/client.ts';
import { messageOf } from '../../platform/errors.ts';
import { atSocket, type SocketOptions, withSocket } from '../at-socket.ts';
import { CommandError } from '../fail.ts';
import { traceJson } from './pod-trace.ts';
import { readTrace } from './read-trace.ts';
import { waterfall } from './waterfall.ts';
import { waterfallSvg } from './waterfall-svg.ts';

interface TraceOptions extends SocketOptions {
  readonly svg?: string;
  readonly json?: boolean;
}

/** Of output that goes into a file or a pipe. */
const plainColumns = 120;
const failed = 1;

/** `kelyfos trace`: where the time of a pod's start went. */
export function addTraceCommand(program: Command): void {
  withSocket(program.command('trace'))
    .description('show where the time went when a pod and its containers were started')
    .argument('<pod>', 'begin of its id, or namespace/name')
    .option('--svg <FILE>', 'draw it into a file; - for standard output')
    .option('--json', 'print it for programs')
    .action(async (pod: string, { svg, json, ...options }: TraceOptions) => {
      await atSocket(options, async (socket, signal) => {
        using client = new CriClient(socket);
        const trace = await readTrace(client, pod, signal);
        if (svg !== undefined) await save(svg, waterfallSvg(trace));
        if (json === true) process.stdout.write(traceJson(trace));
        else if (svg === undefined)
          process.stdout.write(waterfall(trace, process.stdout.isTTY ? process.stdout.columns : plainColumns));
      });
    });
}

async function save(path: string, content: string): Promise<void> {
  if (path === '-') {
    process.stdout.write(content);
    return;
  }
  try {
    await writeFile(path, content);
  } catch (error) {
    throw new CommandError(`cannot write the drawing: ${messageOf(error)}`, failed, { cause: error });
  }
}
