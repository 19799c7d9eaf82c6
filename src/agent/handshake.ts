import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { AppError, wrap } from '../platform/errors.ts';

/** Unix sockets behind the guest's two virtio-serial ports. */
export interface GuestSockets {
  readonly data: string;
  readonly reset: string;
}

/** Sockets of one session; `data` is positioned right after the agent's echo. */
export interface FreshConnection {
  readonly data: Socket;
  readonly reset: Socket;
}

const magic = Buffer.from('KRST');
const nonceBytes = 16;

/**
 * Opens both ports and gets the agent to start a new session on them (docs/guest-agent.md, "Reset
 * line"). What an earlier session left in the data port, in either direction, is discarded by
 * waiting for a nonce that nobody could have sent before. Rejects with `unavailable` after
 * `timeoutMs`: the answer can stick in the port when the host was gone while the VM was paused, and
 * a second socket works then, so keep it short and try again.
 */
export async function openConnection(sockets: GuestSockets, timeoutMs: number): Promise<FreshConnection> {
  const signal = AbortSignal.timeout(timeoutMs);
  await unblock(sockets.data);
  const reset = connect(sockets.reset);
  const data = connect(sockets.data);
  // An error that comes while we wait for another event must not take the process down.
  reset.on('error', () => data.destroy());
  data.on('error', () => reset.destroy());
  try {
    await Promise.all([once(reset, 'connect', { signal }), once(data, 'connect', { signal })]);
    const nonce = randomBytes(nonceBytes);
    reset.write(Buffer.concat([magic, nonce]));
    data.write(nonce);
    await skipPast(data, nonce, signal);
    return { data, reset };
  } catch (error) {
    data.destroy();
    reset.destroy();
    throw signal.aborted
      ? new AppError('unavailable', `guest agent at ${sockets.data} does not answer within ${String(timeoutMs)} ms`)
      : wrap(error, `connect to guest agent at ${sockets.data}`, 'unavailable');
  }
}

/**
 * Connects and leaves again. When the guest writes to a client that has just gone, QEMU (seen
 * with 7.2) marks the port as throttled after it has marked it as closed, and nothing but the next close
 * takes that back: the first client to come would never be answered.
 */
async function unblock(path: string): Promise<void> {
  const socket = connect(path);
  const closed = once(socket, 'close');
  // The connection proper meets the same error and reports it.
  socket.on('error', () => undefined);
  socket.once('connect', () => socket.destroy());
  await closed;
}

/** Reads until the nonce has passed and puts back what came after it in the same chunk. */
async function skipPast(socket: Socket, nonce: Buffer, signal: AbortSignal): Promise<void> {
  const found = Promise.withResolvers<undefined>();
  let tail = Buffer.alloc(0);
  const onData = (chunk: Buffer): void => {
    const seen = Buffer.concat([tail, chunk]);
    const at = seen.indexOf(nonce);
    if (at < 0) {
      tail = seen.subarray(-(nonceBytes - 1));
      return;
    }
    // Pause before unshift: the HTTP/2 session must be the first to see the rest.
    socket.pause();
    socket.off('data', onData);
    const rest = seen.subarray(at + nonceBytes);
    if (rest.length > 0) socket.unshift(rest);
    found.resolve(undefined);
  };
  const onClose = (): void => {
    found.reject(new AppError('unavailable', 'port closed during the handshake'));
  };
  const onAbort = (): void => {
    found.reject(new AppError('unavailable', 'no answer'));
  };
  socket.on('data', onData);
  socket.once('close', onClose);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await found.promise;
  } finally {
    socket.off('data', onData);
    socket.off('close', onClose);
    signal.removeEventListener('abort', onAbort);
  }
}
