import { mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, hasCode, messageOf, wrap } from '../platform/errors.ts';
import { runBatch, runHostTool } from './host-tool.ts';

/** The guest's end of the network: what QEMU opens in the namespace. */
export const TAP_NAME = 'tap0';

/** Where iproute2 keeps named namespaces, so that `ip netns` lists and enters ours. */
const NETNS_DIR = '/run/netns';
const VM_ID = /^[0-9a-f]{16}$/;

/**
 * Settings of a namespace whose addresses belong to a guest. The interface keeps the pod's addresses
 * (plugins look for them there at DEL), but its stack must stay silent:
 * - accept_dad: the namespace would probe for addresses that the guest uses; besides, plugins that set
 *   an IPv6 address wait a second for the probe. Nothing can collide: IPAM gave the address out once.
 * - accept_ra, router_solicitations: router advertisements are for the guest, not for a second stack
 *   with the same MAC.
 * - disable_ipv6 on the tap: no link-local address, so no packets of the host's own towards the guest.
 * Answers (ARP, neighbour discovery) need no setting: once joined, tc takes every packet off the
 * interface before the stack sees it.
 */
const SYSCTLS = [
  'net.ipv6.conf.default.accept_dad=0',
  'net.ipv6.conf.default.accept_ra=0',
  'net.ipv6.conf.default.router_solicitations=0',
  `net.ipv6.conf.${TAP_NAME}.disable_ipv6=1`,
];

const TAP_COMMANDS = [
  `tuntap add dev ${TAP_NAME} mode tap vnet_hdr`,
  'link set dev lo up',
  `link set dev ${TAP_NAME} up`,
  '',
].join('\n');

export interface NetworkNamespacesOptions {
  /**
   * One empty file per namespace of this daemon. All daemons of a host share /run/netns: without the
   * markers the sweep of one would delete the namespaces of another.
   */
  readonly markerDir: string;
}

/** Named network namespaces, one per VM, each with a tap that waits for QEMU and for a pod's interface. */
export class NetworkNamespaces {
  readonly #markerDir: string;

  constructor(options: NetworkNamespacesOptions) {
    this.#markerDir = options.markerDir;
  }

  /** Path of a VM's namespace, whether it exists or not. */
  path(vmId: string): string {
    return join(NETNS_DIR, this.#name(vmId));
  }

  /** Makes the namespace with loopback up and a tap, and returns its path. Nothing stays after a failure. */
  async create(vmId: string): Promise<string> {
    const [name, netns] = [this.#name(vmId), this.path(vmId)];
    await mkdir(this.#markerDir, { recursive: true, mode: 0o700 });
    await writeFile(this.#marker(vmId), '', { flag: 'wx' }).catch((error: unknown) => {
      if (hasCode(error, 'EEXIST'))
        throw new AppError('already-exists', `network namespace ${name} exists`, { cause: error });
      throw error;
    });
    try {
      await this.#prepareDirectory(name);
      await writeFile(netns, '', { flag: 'wx', mode: 0o444 });
      // unshare binds its new namespace to the file, as `ip netns add` does, and one process less is
      // needed to work in it. The tap has no owner: only a process with CAP_NET_ADMIN, the jailer before
      // it drops its privileges, can open it. It must ask for IFF_VNET_HDR too, or offloads are lost.
      await runHostTool(['unshare', `--net=${netns}`, 'ip', '-batch', '-'], { input: TAP_COMMANDS });
      await Promise.all([
        runHostTool(['sysctl', '-q', '-e', '-w', ...SYSCTLS], { netns }), // -e: a host without IPv6 lacks these
        runBatch('tc', [`qdisc add dev ${TAP_NAME} ingress`], netns),
      ]);
      return netns;
    } catch (error) {
      await this.remove(vmId).catch((left: unknown) => {
        throw wrap(error, `make network namespace ${name} (and remove it again: ${messageOf(left)})`);
      });
      throw wrap(error, `make network namespace ${name}`);
    }
  }

  /** Removes the name. The kernel frees namespace, tap and interfaces once the last process in it is gone. Idempotent. */
  async remove(vmId: string): Promise<void> {
    const [name, netns] = [this.#name(vmId), this.path(vmId)];
    if (await exists(netns)) {
      await runHostTool(['ip', 'netns', 'delete', name]).catch(async (error: unknown) => {
        if (await exists(netns)) throw wrap(error, `remove network namespace ${name}`);
      });
    }
    await rm(this.#marker(vmId), { force: true });
  }

  /** Ids of the VMs that this daemon, or one before it with the same state directory, made a namespace for. */
  async list(): Promise<readonly string[]> {
    const names = await readdir(this.#markerDir).catch((error: unknown) => {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    });
    return names.filter((name) => VM_ID.test(name)).sort();
  }

  /** iproute2 keeps its folder a shared mount, so that names reach other mount namespaces, and makes it so with its first name. */
  async #prepareDirectory(name: string): Promise<void> {
    const mounts = await readFile('/proc/self/mountinfo', 'utf8');
    if (mounts.includes(` ${NETNS_DIR} `)) return;
    await runHostTool(['ip', 'netns', 'add', name]);
    await runHostTool(['ip', 'netns', 'delete', name]);
  }

  #name(vmId: string): string {
    if (!VM_ID.test(vmId)) throw new AppError('invalid', `VM id "${vmId}" is not 16 hex digits`);
    return `kelyfos-${vmId}`;
  }

  #marker(vmId: string): string {
    return join(this.#markerDir, vmId);
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}
