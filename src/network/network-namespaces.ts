import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, hasCode, messageOf, wrap } from '../platform/errors.ts';

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
const SETTINGS = [
  ['net/ipv6/conf/default/accept_dad', '0'],
  ['net/ipv6/conf/default/accept_ra', '0'],
  ['net/ipv6/conf/default/router_solicitations', '0'],
  [`net/ipv6/conf/${TAP_NAME}/disable_ipv6`, '1'],
] as const;

/** Makes and removes named namespaces. */
export interface NamespaceMaker {
  /** With loopback and a tap, both up. Settings are paths below /proc/sys, and values. */
  make(namespace: string, tap: string, settings: readonly (readonly [string, string])[]): Promise<void>;
  /** Idempotent. */
  forget(namespace: string): Promise<void>;
}

export interface NetworkNamespacesOptions {
  readonly networker: NamespaceMaker;
  /**
   * One empty file per namespace of this daemon. All daemons of a host share /run/netns: without the
   * markers the sweep of one would delete the namespaces of another.
   */
  readonly markerDir: string;
}

/** Named network namespaces, one per VM, each with a tap that waits for QEMU and for a pod's interface. */
export class NetworkNamespaces {
  readonly #networker: NamespaceMaker;
  readonly #markerDir: string;

  constructor(options: NetworkNamespacesOptions) {
    this.#networker = options.networker;
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
      await this.#networker.make(netns, TAP_NAME, SETTINGS);
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
    await this.#networker.forget(this.path(vmId)).catch((error: unknown) => {
      throw wrap(error, `remove network namespace ${this.#name(vmId)}`);
    });
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

  #name(vmId: string): string {
    if (!VM_ID.test(vmId)) throw new AppError('invalid', `VM id "${vmId}" is not 16 hex digits`);
    return `kelyfos-${vmId}`;
  }

  #marker(vmId: string): string {
    return join(this.#markerDir, vmId);
  }
}
