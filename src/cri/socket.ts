import { chmod, lstat, mkdir, rename, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { AppError, hasCode } from '../platform/errors.ts';

/** How long a daemon may take to accept a connection before its socket counts as stale. */
const answerTimeoutMs = 2_000;

async function answers(path: string): Promise<boolean> {
  const turn = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.setTimeout(answerTimeoutMs, () => {
    turn.resolve(false);
  });
  socket.once('connect', () => {
    turn.resolve(true);
  });
  socket.once('error', (error) => {
    if (hasCode(error, 'ECONNREFUSED', 'ENOENT')) turn.resolve(false);
    else
      turn.reject(new AppError('failed-precondition', `cannot tell whether a daemon serves ${path}: ${error.message}`));
  });
  try {
    return await turn.promise;
  } finally {
    socket.destroy();
  }
}

/** Makes sure that a socket can be put at `path`: nothing there, or what a dead daemon has left. */
export async function claimSocketPath(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  let isSocket: boolean;
  try {
    isSocket = (await lstat(path)).isSocket();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    throw error;
  }
  if (!isSocket) throw new AppError('failed-precondition', `${path} exists and is not a socket`);
  if (await answers(path)) throw new AppError('failed-precondition', `another daemon serves ${path}`);
}

/** Where a server listens until its socket is complete. */
export function temporarySocketPath(path: string): string {
  return `${path}.${String(process.pid)}`;
}

/** Puts the socket in its place with its mode, so that nobody can connect before the mode is right. */
export async function publishSocket(temporary: string, path: string): Promise<void> {
  await chmod(temporary, 0o600);
  await rename(temporary, path);
}

/** Removes the socket unless another daemon has put its own there. */
export async function withdrawSocket(path: string, inode: bigint): Promise<void> {
  try {
    if ((await lstat(path, { bigint: true })).ino === inode) await unlink(path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}
