import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { AppError } from '../../platform/errors.ts';

const passTimeoutMs = 10_000;
const stderrBytes = 500;

/**
 * Opens a block device and sends its descriptor over a unix socket, which Node cannot do. With it goes
 * a line feed, which means nothing to a monitor.
 */
export async function passDevice(jailer: string, device: string, writable: boolean, socket: Socket): Promise<void> {
  const argv = ['pass', ...(writable ? ['--writable'] : []), device];
  const child = spawn(jailer, argv, {
    stdio: ['ignore', 'ignore', 'pipe', descriptorOf(socket)],
    timeout: passTimeoutMs,
  });
  let complaint = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    complaint = `${complaint}${text}`.slice(-stderrBytes);
  });
  const outcome = await new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      resolve(code === 0 ? '' : complaint.trim() || `${jailer} pass: ${signal ?? `exit code ${String(code)}`}`);
    });
  });
  if (outcome !== '') throw new AppError('failed-precondition', outcome);
}

/** Its number, which Node keeps to itself: handed over as it is, a socket would no longer be read here. */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as Socket & { readonly _handle?: { readonly fd?: number } | null };
  if (handle?.fd === undefined || handle.fd < 0) throw new AppError('unavailable', 'the monitor is not connected');
  return handle.fd;
}
