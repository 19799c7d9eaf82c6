import { option } from './argument.ts';

export interface ConsoleConfig {
  /** Path in the jail. */
  readonly log: string;
}

/** ttyS0, written to a file for the error message of a guest that dies. */
export function consoleArguments({ log }: ConsoleConfig): string[] {
  return ['-chardev', option('file', { id: 'console', path: log, append: true }), '-serial', 'chardev:console'];
}
