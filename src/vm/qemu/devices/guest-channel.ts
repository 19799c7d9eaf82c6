import { option } from './argument.ts';
import { inheritedFds } from './inherited-fds.ts';
import { pciAddress, pciSlots } from './pci.ts';

/** Names the guest finds the ports by. */
export const portNames = { data: 'kelyfos.agent', reset: 'kelyfos.reset' } as const;

/** What QEMU calls the ports in its events. */
export const portIds = { data: 'data-port', reset: 'reset-port' } as const;

/** The virtio-serial ports to the agent: gRPC on one, the line that resets it on the other. */
export function guestChannelArguments(): string[] {
  const port = (chardev: string, id: string, fd: number, name: string, nr: number): string[] => [
    '-chardev',
    option('socket', { id: chardev, fd, server: true, wait: false }),
    '-device',
    option('virtserialport', { bus: 'channel.0', nr, chardev, id, name }),
  ];
  return [
    '-device',
    option('virtio-serial-pci', {
      id: 'channel',
      addr: pciAddress(pciSlots.serial),
      max_ports: 4,
      'disable-legacy': true,
    }),
    ...port('data', portIds.data, inheritedFds.data, portNames.data, 1),
    ...port('reset', portIds.reset, inheritedFds.reset, portNames.reset, 2),
  ];
}
