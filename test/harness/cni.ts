import { randomBytes, randomInt } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { hasCode } from '../../src/platform/errors.ts';
import { freeFolder, removeFolder } from './free-folder.ts';

export interface TestNetworkOptions {
  /** Also gives out addresses of a private IPv6 range. */
  readonly dualStack?: boolean;
  /** Room for some thousand pods, as far as the bridge has; otherwise for 253. */
  readonly wide?: boolean;
  /** Of the bridge and what hangs on it; the plugin's own without. */
  readonly mtu?: number;
  /** More plugins at the end of the chain. */
  readonly plugins?: readonly Readonly<Record<string, unknown>>[];
}

/** The chains of the portmap plugin that stay when the last port is gone, and what leads into them. */
const portmapChains = ['CNI-HOSTPORT-DNAT', 'CNI-HOSTPORT-SETMARK', 'CNI-HOSTPORT-MASQ'];

const toolTimeoutMs = 20_000;

async function natRules(tool: string): Promise<string[]> {
  const { stdout, failed } = await execa(tool, ['-w', '5', '-t', 'nat', '-S'], {
    reject: false,
    timeout: toolTimeoutMs,
  });
  return failed ? [] : stdout.split('\n');
}

/** /24s of a wide network, which begins at a multiple of them. */
const wideSubnets = 16;
const wideLength = 20;

/** The first numbers of so many /24s in 10.0.0.0/8 that no route of this machine leads to. */
async function freeSubnet(subnets: number): Promise<string> {
  const { stdout } = await execa('ip', ['-4', '-o', 'route', 'show', 'table', 'all'], { timeout: toolTimeoutMs });
  for (;;) {
    const second = `10.${String(randomInt(64, 255))}`;
    const first = randomInt(0, 256 / subnets) * subnets;
    const prefixes = Array.from({ length: subnets }, (_, at) => `${second}.${String(first + at)}`);
    if (prefixes.every((prefix) => !stdout.includes(`${prefix}.`))) return prefixes[0] ?? second;
  }
}

/** A CNI configuration (bridge and portmap) in a folder of its own, with a bridge and a subnet that nothing else uses. */
export class TestNetwork implements AsyncDisposable {
  /** For `cni.conf_dir`. */
  readonly confDir: string;
  readonly bridge: string;
  /** First three numbers of the subnet's first addresses, e.g. 10.77.3 */
  readonly prefix: string;
  /** Address of the host on the bridge. */
  readonly gateway: string;
  /** The same of a dual-stack network. */
  readonly gateway6: string;
  readonly #folder: string;
  readonly #hadPortmap: boolean;

  private constructor(folder: string, prefix: string, hadPortmap: boolean) {
    this.#folder = folder;
    this.#hadPortmap = hadPortmap;
    this.confDir = join(folder, 'net.d');
    this.bridge = `kt${randomBytes(4).toString('hex')}`;
    this.prefix = prefix;
    this.gateway = `${prefix}.1`;
    this.gateway6 = `${this.#prefix6}::1`;
  }

  static async create(options: TestNetworkOptions = {}): Promise<TestNetwork> {
    const hadPortmap = (await natRules('iptables')).some((rule) => rule.includes('CNI-HOSTPORT'));
    const network = new TestNetwork(
      await freeFolder('cni'),
      await freeSubnet(options.wide === true ? wideSubnets : 1),
      hadPortmap,
    );
    await mkdir(network.confDir);
    await network.write('10-test.conflist', network.conflist(options));
    return network;
  }

  get #prefix6(): string {
    return `fd00:${this.prefix.split('.').join(':')}`;
  }

  conflist(options: TestNetworkOptions = {}): Readonly<Record<string, unknown>> {
    const ranges: unknown[] = [
      [{ subnet: `${this.prefix}.0/${String(options.wide === true ? wideLength : 24)}`, gateway: this.gateway }],
    ];
    const routes = [{ dst: '0.0.0.0/0' }];
    if (options.dualStack === true) {
      ranges.push([{ subnet: `${this.#prefix6}::/64`, gateway: this.gateway6 }]);
      routes.push({ dst: '::/0' });
    }
    return {
      cniVersion: '1.0.0',
      name: this.bridge,
      plugins: [
        {
          type: 'bridge',
          bridge: this.bridge,
          isGateway: true,
          ipMasq: true,
          hairpinMode: true,
          ...(options.mtu === undefined ? {} : { mtu: options.mtu }),
          ipam: { type: 'host-local', dataDir: join(this.#folder, 'ipam'), ranges, routes },
        },
        { type: 'portmap', capabilities: { portMappings: true } },
        ...(options.plugins ?? []),
      ],
    };
  }

  /** Puts a file into the configuration folder; a daemon is to notice it. */
  async write(name: string, content: unknown): Promise<void> {
    await writeFile(join(this.confDir, name), typeof content === 'string' ? content : JSON.stringify(content));
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.confDir, name), { force: true });
  }

  /** Addresses that the IPAM plugin has given out and not got back. */
  async leases(): Promise<readonly string[]> {
    // Its folder comes with the first address.
    const names = await readdir(this.#leases).catch(() => []);
    return names.filter((name) => name !== 'lock' && !name.startsWith('last_reserved_ip.'));
  }

  /** The same with the id of the sandbox that each was given to. */
  async leaseOwners(): Promise<readonly { readonly address: string; readonly owner: string }[]> {
    const read = (await this.leases()).map(async (address) => {
      // It may be given back at any moment.
      const text = await readFile(join(this.#leases, address), 'utf8').catch((error: unknown) => {
        if (hasCode(error, 'ENOENT')) return undefined;
        throw error;
      });
      return text === undefined ? [] : [{ address, owner: text.split(/\s/)[0] ?? '' }];
    });
    return (await Promise.all(read)).flat();
  }

  get #leases(): string {
    return join(this.#folder, 'ipam', this.bridge);
  }

  /** Removes the bridge, the folder, and the empty chains that the plugins leave behind. */
  async close(): Promise<void> {
    await execa('ip', ['link', 'delete', this.bridge], { reject: false, timeout: toolTimeoutMs });
    if (!this.#hadPortmap) await removePortmapChains();
    await removeFolder(this.#folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function removePortmapChains(): Promise<void> {
  for (const tool of ['iptables', 'ip6tables']) {
    const nat = (...args: string[]) =>
      execa(tool, ['-w', '5', '-t', 'nat', ...args], { reject: false, timeout: toolTimeoutMs });
    const rules = await natRules(tool);
    // Somebody's ports are still mapped: the chains are in use.
    if (rules.some((rule) => rule.startsWith('-N CNI-DN-'))) continue;
    for (const rule of rules.filter((line) => portmapChains.some((chain) => line.includes(`-j ${chain}`)))) {
      const match = /^-A (\S+) (.*)$/.exec(rule);
      // Quotes occur in comments only; without them the words are the arguments.
      if (match?.[1] !== undefined && match[2] !== undefined) {
        const words = match[2].match(/"[^"]*"|\S+/g) ?? [];
        await nat('-D', match[1], ...words.map((word) => word.replaceAll('"', '')));
      }
    }
    for (const chain of portmapChains) {
      await nat('-F', chain);
      await nat('-X', chain);
    }
  }
}
