import { option } from './argument.ts';
import { pciAddress, pciSlots } from './pci.ts';

/** Entropy, and a generation id that differs in each clone so that the guest kernel reseeds when it wakes up as one. */
export function randomArguments(): string[] {
  return [
    '-object',
    option('rng-builtin', { id: 'entropy' }),
    '-device',
    option('virtio-rng-pci', { rng: 'entropy', addr: pciAddress(pciSlots.random), 'disable-legacy': true }),
    '-device',
    option('vmgenid', { id: 'generation', guid: 'auto' }),
  ];
}
