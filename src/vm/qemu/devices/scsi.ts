import { option } from './argument.ts';
import { pciAddress, pciSlots } from './pci.ts';

export const scsiBus = 'scsi0.0';

/** A controller without disks, for what exceeds the image slots. */
export function scsiArguments(): string[] {
  return [
    '-device',
    option('virtio-scsi-pci', { id: 'scsi0', addr: pciAddress(pciSlots.scsi), 'disable-legacy': true }),
  ];
}
