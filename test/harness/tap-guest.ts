import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';

/** From linux/if_tun.h. */
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const FLAGS = 0x5002; // IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
const CSUM_TSO4_TSO6 = 7;

/** A program in the background, to be killed and awaited. */
export type RunningProgram = PromiseLike<unknown> & { kill(signal: NodeJS.Signals): boolean };

interface GuestNetwork {
  readonly interfaces: readonly { readonly mac: string; readonly mtu: number; readonly addresses: readonly string[] }[];
  readonly routes: readonly {
    readonly destination: string;
    readonly gateway: string;
    readonly source: string;
    readonly scope: number;
    readonly metric: number;
    readonly onlink: boolean;
    readonly mtu: number;
  }[];
}

/**
 * Stands for a virtual machine on a tap: a namespace of its own with a network stack, whose card is a
 * second tap, and a relay that copies frames between the two, with their virtio-net headers, as QEMU
 * does. With `offloads` neither side completes checksums or cuts up segments before the relay.
 */
export class TapGuest {
  readonly name: string;
  readonly #relay: RunningProgram;

  private constructor(name: string, relay: RunningProgram) {
    this.name = name;
    this.#relay = relay;
  }

  static async start(name: string, netns: string, tap: string, offloads: boolean): Promise<TapGuest> {
    await execa('ip', ['netns', 'add', name]);
    const open = (device: string): string =>
      `OPEN:/dev/net/tun,rdwr,ioctl-bin=${String(TUNSETIFF)}:${ifreq(device)},ioctl-int=${String(TUNSETOFFLOAD)}:${String(offloads ? CSUM_TSO4_TSO6 : 0)}`;
    const relay = execa('nsenter', [`--net=${netns}`, 'socat', '-b', '131072', open(tap), open('guestcard')], {
      reject: false,
    });
    const guest = new TapGuest(name, relay);
    // The card exists once socat has opened it; then it moves, and the relay's descriptor with it.
    for (let attempt = 0; ; attempt++) {
      const moved = await execa(
        'nsenter',
        [`--net=${netns}`, 'ip', 'link', 'set', 'guestcard', 'netns', name, 'name', 'eth0'],
        {
          reject: false,
        },
      );
      if (moved.exitCode === 0) break;
      if (attempt === 100) throw new Error(`no card for ${name}: ${moved.stderr}`);
      await delay(20);
    }
    return guest;
  }

  /** What the agent does with it. */
  async configure(network: GuestNetwork): Promise<void> {
    const [card] = network.interfaces;
    if (card === undefined) throw new Error('no interface');
    const lines = [
      'link set lo up',
      `link set eth0 address ${card.mac} mtu ${String(card.mtu)} up`,
      ...card.addresses.map(
        (address) => `address add ${address} dev eth0 noprefixroute${address.includes(':') ? ' nodad' : ''}`,
      ),
      ...network.routes.map((route) =>
        [
          `route replace ${route.destination}`,
          ...(route.gateway === '' ? [] : [`via ${route.gateway}`]),
          'dev eth0',
          ...(route.source === '' ? [] : [`src ${route.source}`]),
          ...(route.scope === 0 ? [] : [`scope ${String(route.scope)}`]),
          ...(route.metric === 0 ? [] : [`metric ${String(route.metric)}`]),
          ...(route.onlink ? ['onlink'] : []),
          ...(route.mtu === 0 ? [] : [`mtu ${String(route.mtu)}`]),
        ].join(' '),
      ),
    ];
    await execa('ip', ['-n', this.name, '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }

  /** Runs a program in the guest and returns its output. */
  async exec(argv: readonly string[], input: Buffer): Promise<Buffer> {
    const { stdout } = await execa('nsenter', [`--net=/run/netns/${this.name}`, ...argv], {
      encoding: 'buffer',
      input,
    });
    return Buffer.from(stdout);
  }

  async stop(): Promise<void> {
    this.#relay.kill('SIGKILL');
    await this.#relay;
    await execa('ip', ['netns', 'delete', this.name]);
  }
}

/** struct ifreq: 16 bytes of name, flags, zeroes; in socat's notation. */
function ifreq(device: string): string {
  const bytes = Buffer.alloc(40);
  bytes.write(device);
  bytes.writeUInt16LE(FLAGS, 16);
  return `x${bytes.toString('hex')}`;
}
