/** What QEMU sees in its jail; VmFolder has the host's side of each. */
export const jailPaths = {
  /** Where the daemon listens while a template's device state is written. Only templates have a /run. */
  stateSink: '/run/state.sock',
  share: '/share',
  disks: '/disks',
  guest: '/guest',
} as const;
