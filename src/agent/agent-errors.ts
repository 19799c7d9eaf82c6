import { Code, ConnectError } from '@connectrpc/connect';
import { AppError, type ErrorKind } from '../platform/errors.ts';

const kinds: Partial<Record<Code, ErrorKind>> = {
  [Code.InvalidArgument]: 'invalid',
  [Code.NotFound]: 'not-found',
  [Code.AlreadyExists]: 'already-exists',
  [Code.FailedPrecondition]: 'failed-precondition',
  [Code.ResourceExhausted]: 'exhausted',
  [Code.Unavailable]: 'unavailable',
  [Code.DeadlineExceeded]: 'deadline',
  [Code.Canceled]: 'cancelled',
  [Code.Unimplemented]: 'unimplemented',
};

/** What a call to the agent ended with, in the terms of the host. */
export function fromAgent(error: unknown, call: string): AppError {
  if (error instanceof AppError) return error;
  const failure = ConnectError.from(error);
  return new AppError(kinds[failure.code] ?? 'internal', `guest agent: ${call}: ${failure.rawMessage}`, {
    cause: error,
  });
}

/** True when the connection was lost, so that nobody knows whether the call took effect. */
export function isConnectionLoss(error: unknown): boolean {
  return ConnectError.from(error).code === Code.Unavailable;
}
