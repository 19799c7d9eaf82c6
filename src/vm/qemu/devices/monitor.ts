import { option } from './argument.ts';
import { inheritedFds } from './inherited-fds.ts';

/** The QMP socket. QEMU listens, so that a later daemon can connect again. */
export function monitorArguments(): string[] {
  return [
    '-chardev',
    option('socket', { id: 'qmp', fd: inheritedFds.monitor, server: true, wait: false }),
    '-mon',
    option('chardev=qmp', { mode: 'control' }),
  ];
}
