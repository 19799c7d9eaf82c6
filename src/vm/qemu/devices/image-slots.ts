import { option } from './argument.ts';
import { pciAddress, pciSlots } from './pci.ts';

/** Enough for most pods; each takes 0.3 MB of QEMU in every pod. Beyond it disks are added while the guest runs. */
export const imageSlotCount = 4;

export function slotSerial(slot: number): string {
  return `slot${String(slot)}`;
}

/** Node name of what an empty slot holds. */
export function placeholderNode(slot: number): string {
  return `empty${String(slot)}`;
}

/**
 * Read-only virtio-blk disks that are there from boot and filled at claim by exchanging their block
 * node. `slotBytes` is what the guest sees as the size of each, whatever is in it: every image file
 * has that size, because a change of size would have to be told.
 */
export function imageSlotArguments(slotBytes: number): string[] {
  return Array.from({ length: imageSlotCount }, (_, slot) => [
    '-blockdev',
    option('driver=null-co', {
      'node-name': placeholderNode(slot),
      size: slotBytes,
      'read-zeroes': true,
      'read-only': true,
    }),
    '-device',
    option('virtio-blk-pci', {
      id: slotSerial(slot),
      drive: placeholderNode(slot),
      serial: slotSerial(slot),
      addr: pciAddress(pciSlots.imageSlots + slot),
      'disable-legacy': true,
    }),
  ]).flat();
}
