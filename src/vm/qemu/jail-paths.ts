/** What QEMU sees in its jail; VmFolder has the host's side of each. */
export const jailPaths = {
  monitor: '/run/qmp.sock',
  data: '/run/agent.sock',
  reset: '/run/reset.sock',
  serialLog: '/run/serial.log',
  /** Where the daemon listens while a template's device state is written. */
  stateSink: '/run/state.sock',
  share: '/share',
  disks: '/disks',
  guest: '/guest',
} as const;
