import type { Command } from 'commander';
import { ArchiveClient } from '../cri/archives/client.ts';
import { CriClient } from '../cri/client.ts';
import { openArchive, saveArchive } from './archive-file.ts';
import { atSocket, type SocketOptions, withSocket } from './at-socket.ts';
import { imageTable } from './image-table.ts';

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
