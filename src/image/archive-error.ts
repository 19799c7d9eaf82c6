import { AppError } from '../platform/errors.ts';
import { kindOfFailure } from './registry-error.ts';
import type { WatchedExit } from '../platform/watched-process.ts';

/** Skopeo has failed with an archive. What is wrong with a registry cannot be wrong with a file. */
export function archiveError(doing: string, { stderr, signal }: WatchedExit): AppError {
  const failure = kindOfFailure(signal === undefined ? stderr : `${stderr} (ended by ${signal})`);
  const lead = failure.lead.startsWith('SignatureValidationFailed') || failure.kind === 'exhausted' ? failure.lead : '';
  const kind = lead === '' ? 'invalid' : failure.kind;
  return new AppError(kind, `${lead}${doing}: ${failure.said}`);
}
