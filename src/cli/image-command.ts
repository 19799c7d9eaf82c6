import type { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { ArchiveClient } from '../cri/archives/client.ts';
import { CriClient } from '../cri/client.ts';
import { openArchive, saveArchive } from './archive-file.ts';
import { explainDaemonError } from './daemon-error.ts';
import { imageTable } from './image-table.ts';

interface SocketOptions {
  readonly config?: string;
  readonly socket?: string;
}

const failed = 1;

/** `kelyfos image`: the images of a running daemon, and archives of them. Everything else is crictl's. */
export function addImageCommand(program: Command): void {
  const image = program.command('image').description('list images, and move them in and out as archives');

  withSocket(image.command('list'))
    .description('list the images of this node')
    .action(async (options: SocketOptions) => {
      await atSocket(options, async (socket) => {
        using client = new CriClient(socket);
        const { images } = await client.call('ListImages', {});
        process.stdout.write(imageTable(images));
      });
    });

  withSocket(image.command('import'))
    .description('add the images of an archive, as "docker save" or skopeo makes one')
    .argument('<file>', 'archive of docker or OCI, compressed or not; - for standard input')
    .option('--tag <NAME>', 'name for the image, instead of the one it has in the archive')
    .action(async (file: string, options: SocketOptions & { readonly tag?: string }) => {
      await atSocket(options, async (socket, signal) => {
        const { name, bytes } = await openArchive(file, process.stdin);
        using client = new ArchiveClient(socket);
        for (const { id, tags } of await client.import(bytes, { name, tag: options.tag }, signal)) {
          process.stdout.write(`${[id, ...tags].join(' ')}\n`);
        }
      });
    });

  withSocket(image.command('export'))
    .description('write an image into an archive')
    .argument('<image>', 'name or id of the image')
    .argument('<file>', 'archive to write; - for standard output')
    .option('--format <FORMAT>', 'oci or docker', 'oci')
    .action(async (name: string, file: string, options: SocketOptions & { readonly format: string }) => {
      await atSocket(options, async (socket, signal) => {
        using client = new ArchiveClient(socket);
        await saveArchive(file, client.export({ image: name, format: options.format }, signal), process.stdout);
      });
    });
}

function withSocket(command: Command): Command {
  return command
    .option('--socket <PATH>', 'socket of the daemon; from the configuration otherwise')
    .option('--config <FILE>', 'configuration file to take the socket from');
}

/** Interrupted, it cancels what the daemon does for it. */
async function atSocket(
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
