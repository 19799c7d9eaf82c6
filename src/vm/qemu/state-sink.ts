import { createWriteStream } from 'node:fs';
import { chmod, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { AppError, abortError } from '../../platform/errors.ts';

/** More than any device state: a QEMU that was taken over must not fill the disk. */
const maxStateBytes = 64 * 1024 * 1024;

export interface StateSink {
  /** Resolves when QEMU has closed its end and everything is in the file. */
  finished(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** Listens on a socket in a VM's jail and writes what the first client sends to a file. */
export async function receiveState(socketPath: string, file: string): Promise<StateSink> {
  await rm(socketPath, { force: true });
  const done = Promise.withResolvers<undefined>();
  done.promise.catch(() => undefined);
  const server = createServer((socket) => {
    server.close(); // one client only
    let bytes = 0;
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > maxStateBytes)
        socket.destroy(new AppError('internal', `device state exceeds ${String(maxStateBytes)} bytes`));
    });
    pipeline(socket, createWriteStream(file, { mode: 0o400, flush: true })).then(
      () => {
        done.resolve(undefined);
      },
      (error: unknown) => {
        done.reject(error);
      },
    );
  });
  await listen(server, socketPath);
  await chmod(socketPath, 0o666); // the folder round it is the VM user's
  return {
    finished: async (signal) => {
      const aborted = Promise.withResolvers<never>();
      const onAbort = (): void => {
        aborted.reject(abortError(signal, `receive device state for ${file}`));
      };
      signal.addEventListener('abort', onAbort);
      try {
        await Promise.race([done.promise, aborted.promise]);
      } finally {
        signal.removeEventListener('abort', onAbort);
      }
    },
    close: async () => {
      server.close();
      await rm(socketPath, { force: true });
    },
  };
}

async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
