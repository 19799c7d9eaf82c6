import { option } from './argument.ts';

/** QEMU's own seccomp filter. With spawn denied nothing in QEMU can run a program. */
export function sandboxArguments(): string[] {
  return [
    '-sandbox',
    option('on', { obsolete: 'deny', elevateprivileges: 'deny', spawn: 'deny', resourcecontrol: 'deny' }),
  ];
}
