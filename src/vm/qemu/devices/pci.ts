/**
 * Slots on the root bus, fixed by hand: a migration stream names devices by address, so a template
 * and its clones must agree whatever order the arguments come in. The guest agent counts network
 * devices in this order too.
 */
export const pciSlots = {
  serial: 0x02,
  random: 0x03,
  balloon: 0x04,
  share: 0x05,
  network: 0x06,
  scsi: 0x07,
  scratch: 0x08,
  /** Image slot n is at imageSlots + n. */
  imageSlots: 0x10,
} as const;

/** PCI address as QEMU writes it. */
export function pciAddress(slot: number): string {
  return `0x${slot.toString(16).padStart(2, '0')}`;
}
