import { option } from './argument.ts';
import { inheritedFds } from './inherited-fds.ts';

/** The only descriptor that QEMU opens by the name of a set. */
const fdSet = 1;

/** ttyS0, written to a file for the error message of a guest that dies. */
export function consoleArguments(): string[] {
  return [
    '-add-fd',
    `fd=${String(inheritedFds.console)},set=${String(fdSet)}`,
    '-chardev',
    option('file', { id: 'console', path: `/dev/fdset/${String(fdSet)}`, append: true }),
    '-serial',
    'chardev:console',
  ];
}
