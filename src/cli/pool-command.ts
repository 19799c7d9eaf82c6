import type { Command } from 'commander';
import { CriClient } from '../cri/client.ts';
import { atSocket, type SocketOptions, withSocket } from './at-socket.ts';
import { CommandError } from './fail.ts';
import { type Pools, poolsSchema, poolTable } from './pool-table.ts';

const failed = 1;

/** `kelyfos pool`: the virtual machines that wait for pods. */
export function addPoolCommand(program: Command): void {
  withSocket(program.command('pool'))
    .description('show the pools of virtual machines: what waits in them, and how many pods found one there')
    .option('--json', 'print them for programs')
    .action(async ({ json, ...options }: SocketOptions & { readonly json?: boolean }) => {
      await atSocket(options, async (socket, signal) => {
        using client = new CriClient(socket);
        const { info } = await client.call('Status', { verbose: true }, { signal });
        const pools = parsePools(info['pools']);
        process.stdout.write(json === true ? `${JSON.stringify(pools, undefined, 2)}\n` : poolTable(pools));
      });
    });
}

function parsePools(text: string | undefined): Pools {
  try {
    return poolsSchema.parse(JSON.parse(text ?? ''));
  } catch (error) {
    throw new CommandError(
      'the runtime at this socket has no pools: it is another one, or of another version',
      failed,
      {
        cause: error,
      },
    );
  }
}
