import { option } from './argument.ts';
import { pciAddress, pciSlots } from './pci.ts';

export interface BalloonConfig {
  /** Give the host back what the guest frees. */
  readonly freePageReporting: boolean;
}

export function balloonArguments({ freePageReporting }: BalloonConfig): string[] {
  return [
    '-device',
    option('virtio-balloon-pci', {
      id: 'balloon',
      addr: pciAddress(pciSlots.balloon),
      'disable-legacy': true,
      'free-page-reporting': freePageReporting,
    }),
  ];
}
