import { option } from './argument.ts';
import { memoryBackendId } from './memory.ts';

/** The board: q35 without what a pod has no use for, no display, no user configuration, exit instead of reboot. */
export function machineArguments(): string[] {
  return [
    '-machine',
    option('q35', {
      'memory-backend': memoryBackendId,
      vmport: false,
      smbus: false,
      sata: false,
      usb: false,
      graphics: false,
    }),
    '-nodefaults',
    '-no-user-config',
    '-display',
    'none',
    '-no-reboot',
  ];
}
