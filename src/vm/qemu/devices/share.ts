import { option } from './argument.ts';
import { pciAddress, pciSlots } from './pci.ts';

export interface ShareConfig {
  /** Path in the jail. */
  readonly folder: string;
  readonly tag: string;
}

export const shareTag = 'share';

/**
 * The 9p share for volumes. Owners and modes are the host's own (passthrough); inode numbers of
 * several host file systems below one share are kept apart (remap). Not mounted in a template: a
 * mounted 9p device blocks migration.
 */
export function shareArguments({ folder, tag }: ShareConfig): string[] {
  return [
    '-fsdev',
    option('local', { id: 'share', path: folder, security_model: 'passthrough', multidevs: 'remap' }),
    '-device',
    option('virtio-9p-pci', {
      fsdev: 'share',
      mount_tag: tag,
      addr: pciAddress(pciSlots.share),
      'disable-legacy': true,
    }),
  ];
}
