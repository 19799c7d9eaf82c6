import { option } from './argument.ts';
import { inheritedFds } from './inherited-fds.ts';
import { pciAddress, pciSlots } from './pci.ts';

/**
 * Every VM starts with this locally administered address: a clone has its template's anyhow, and
 * the agent sets the one that the pod's interface has before the link comes up.
 */
const initialMac = '02:00:00:6b:65:6c';

export function networkArguments(): string[] {
  return [
    '-netdev',
    option('tap', { id: 'net0', fd: inheritedFds.tap }),
    '-device',
    option('virtio-net-pci', {
      id: 'nic0',
      netdev: 'net0',
      mac: initialMac,
      addr: pciAddress(pciSlots.network),
      'disable-legacy': true,
      // No network boot: the boot ROM would be loaded into each VM.
      romfile: '',
    }),
  ];
}
