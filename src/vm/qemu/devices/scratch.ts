import { option } from './argument.ts';
import { pciAddress, pciSlots } from './pci.ts';

export interface ScratchConfig {
  /** Path in the jail. */
  readonly file: string;
}

/**
 * The disk of the writable layers. No lock: its only user is this VM. Flushes of the guest are
 * honoured; discards punch holes, so that deleted files give their space back.
 */
export function scratchArguments({ file }: ScratchConfig): string[] {
  return [
    '-blockdev',
    option('driver=file', { 'node-name': 'scratch', filename: file, locking: 'off', discard: 'unmap' }),
    '-device',
    option('virtio-blk-pci', {
      id: 'scratch',
      drive: 'scratch',
      serial: 'scratch',
      addr: pciAddress(pciSlots.scratch),
      'disable-legacy': true,
      discard: true,
    }),
  ];
}
