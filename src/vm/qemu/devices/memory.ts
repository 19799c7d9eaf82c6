import { inheritedFds } from './inherited-fds.ts';
import { option, requireRange } from './argument.ts';

/**
 * Where the guest's memory comes from.
 * - anonymous: a cold boot; pages the guest gives back go back to the host
 * - template: the memfd of a template in the making, written in place
 * - clone: the sealed memfd of a template, private from the first write on
 */
export type MemorySource = 'anonymous' | 'template' | 'clone';

export interface MemoryConfig {
  readonly source: MemorySource;
  readonly bytes: number;
}

const mebibyte = 1024 * 1024;

export const memoryBackendId = 'ram';

/** Guest memory. Its size is a ceiling: untouched pages cost nothing whatever the source. */
export function memoryArguments({ source, bytes }: MemoryConfig): string[] {
  requireRange('memory in bytes', bytes, 64 * mebibyte, 1024 * 1024 * mebibyte);
  requireRange('memory in MiB', bytes / mebibyte, 64, 1024 * 1024);
  const backend =
    source === 'anonymous'
      ? option('memory-backend-ram', { id: memoryBackendId, size: bytes })
      : option('memory-backend-file', {
          id: memoryBackendId,
          size: bytes,
          'mem-path': `/proc/self/fd/${String(inheritedFds.memory)}`,
          share: source === 'template',
        });
  return ['-object', backend, '-m', `${String(bytes / mebibyte)}M`];
}
