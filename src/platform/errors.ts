/** What went wrong, in the terms of the domain. src/cri maps each kind to one gRPC status. */
export type ErrorKind =
  | 'invalid' // the caller's request makes no sense
  | 'not-found'
  | 'already-exists'
  | 'failed-precondition' // right request, wrong state
  | 'exhausted' // a bounded resource is used up
  | 'unavailable' // may work when tried again
  | 'deadline'
  | 'cancelled'
  | 'unimplemented'
  | 'internal';

/**
 * The one error class that crosses module boundaries. Messages are lower case without a final dot
 * and name the id or path; the cause is kept for the log.
 */
export class AppError extends Error {
  override readonly name = 'AppError';
  readonly kind: ErrorKind;

  constructor(kind: ErrorKind, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.kind = kind;
  }
}

/** The error of another runtime, told on as it is. */
export class ForeignError extends AppError {
  /** The gRPC status code it came with. */
  readonly code: number;

  constructor(code: number, message: string, options?: { readonly cause?: unknown }) {
    super('internal', message, options);
    this.code = code;
  }
}

/** The message of anything that can be thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Wraps a foreign error with what was being done; an AppError keeps its kind. */
export function wrap(error: unknown, doing: string, kind: ErrorKind = 'internal'): AppError {
  return new AppError(error instanceof AppError ? error.kind : kind, `${doing}: ${messageOf(error)}`, { cause: error });
}

/** The error a cancelled piece of work ends with: deadline for a time-out, cancelled otherwise. */
export function abortError(signal: AbortSignal, doing: string): AppError {
  const reason: unknown = signal.reason;
  const timedOut = reason instanceof DOMException && reason.name === 'TimeoutError';
  return new AppError(timedOut ? 'deadline' : 'cancelled', `${doing}: ${timedOut ? 'timed out' : 'cancelled'}`, {
    cause: reason,
  });
}

/** True for an errno error of node with one of these codes. Asks for the shape: the error may come from another realm. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return (
    typeof error === 'object' &&
    error !== null &&
    'code' in error &&
    typeof error.code === 'string' &&
    codes.includes(error.code)
  );
}
