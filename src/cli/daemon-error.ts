import { status } from '@grpc/grpc-js';
import { CommandError } from './fail.ts';

/** The daemon's words without gRPC's around them. */
export function explainDaemonError(error: unknown, socket: string, exitCode?: number): unknown {
  if (error instanceof CommandError) return error;
  if (!(error instanceof Error) || !('details' in error) || typeof error.details !== 'string') return error;
  const unreachable = 'code' in error && error.code === status.UNAVAILABLE;
  return new CommandError(unreachable ? explained(error.details, socket) : error.details, exitCode, { cause: error });
}

function explained(details: string, socket: string): string {
  if (/ENOENT|ECONNREFUSED|No connection established/.test(details)) {
    return `no daemon answers at ${socket}; start one with: kelyfos daemon`;
  }
  return details.includes('EACCES') ? `${socket} is for root alone` : details;
}
