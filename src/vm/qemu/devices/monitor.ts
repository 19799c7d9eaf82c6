import { option } from './argument.ts';

export interface MonitorConfig {
  /** Path in the jail. */
  readonly socket: string;
}

/** The QMP socket. QEMU listens, so that a later daemon can connect again. */
export function monitorArguments({ socket }: MonitorConfig): string[] {
  return [
    '-chardev',
    option('socket', { id: 'qmp', path: socket, server: true, wait: false }),
    '-mon',
    option('chardev=qmp', { mode: 'control' }),
  ];
}
