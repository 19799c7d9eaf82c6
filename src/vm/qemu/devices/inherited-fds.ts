/** Descriptors that the jailer opens as root and QEMU inherits, by number. */
export const inheritedFds = {
  /** The tap device in the VM's network namespace. */
  tap: 10,
  /** The template's memory. */
  memory: 11,
  /** The template's device state, read once by a clone. */
  state: 12,
  /** Listening sockets: the monitor, and the two ports of the guest. */
  monitor: 13,
  data: 14,
  reset: 15,
  /** Log of the guest's console. */
  console: 16,
} as const;
