import { status } from '@grpc/grpc-js';
import { AppError, type ErrorKind, ForeignError, messageOf } from '../platform/errors.ts';

/** The one place where errors of the domain become gRPC statuses. */
export const statusOf: Readonly<Record<ErrorKind, status>> = {
  invalid: status.INVALID_ARGUMENT,
  'not-found': status.NOT_FOUND,
  'already-exists': status.ALREADY_EXISTS,
  'failed-precondition': status.FAILED_PRECONDITION,
  exhausted: status.RESOURCE_EXHAUSTED,
  unavailable: status.UNAVAILABLE,
  deadline: status.DEADLINE_EXCEEDED,
  cancelled: status.CANCELLED,
  unimplemented: status.UNIMPLEMENTED,
  internal: status.INTERNAL,
};

/** The message travels in an HTTP/2 header, which clients limit; what is longer is in the log. */
const maxDetails = 4000;

export interface CallStatus {
  readonly code: status;
  readonly details: string;
}

/**
 * What the client is told. The kubelet looks at the start of some messages, so nothing is put before
 * them. Anything that is not an AppError is INTERNAL: grpc-js would send any integer `code` it finds.
 */
export function callStatus(error: unknown): CallStatus {
  const text = messageOf(error);
  return {
    code: codeOf(error),
    details: text.length > maxDetails ? `${text.slice(0, maxDetails)}...` : text,
  };
}

function codeOf(error: unknown): status {
  // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- a status of gRPC, by its number
  if (error instanceof ForeignError) return error.code;
  return error instanceof AppError ? statusOf[error.kind] : status.INTERNAL;
}
