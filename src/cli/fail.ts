import { messageOf } from '../platform/errors.ts';

/** How commands say that they, not what they run, have failed: the number podman uses. */
export const ownFailure = 125;

/** An error with the exit code that goes with it. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitCode: number;

  constructor(message: string, exitCode = ownFailure, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** Tells the user, and the code to end with. */
export function report(error: unknown): number {
  process.stderr.write(`kelyfos: ${messageOf(error)}\n`);
  return error instanceof CommandError ? error.exitCode : 1;
}
