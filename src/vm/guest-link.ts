import type { PodVm } from './pod-vm.ts';

/** Host side sockets of the two ports to the agent. */
export interface GuestSockets {
  readonly data: string;
  readonly reset: string;
}

/** The connection to the agent of one guest. */
export interface GuestConnection {
  /** Gives the ports up; resolves when the sockets are closed. */
  close(): Promise<void>;
}

/**
 * What this module needs of the agent's client, and what is done to guests before pods get them.
 * `A` is the client's own type: it is handed through.
 */
export interface GuestLink<A extends GuestConnection> {
  /** Returns at once; calls wait for the connection. */
  connect(sockets: GuestSockets, vmId: string): A;
  /** Resolves once the guest has answered a call and turned out to be one this daemon can talk to. */
  ready(agent: A, signal: AbortSignal): Promise<void>;
  /**
   * The same for a clone, whose template was asked already: its agent has answered the handshake. The
   * first call, which meets cold code, may go on in the background while others make the pod's network.
   */
  awake(agent: A, signal: AbortSignal): Promise<void>;
  /** Calls that every clone of a template should find warm. The share must not be mounted when it ends. */
  warm(vm: PodVm<A>, signal: AbortSignal): Promise<void>;
  /** A whole dummy claim in a clone that goes to the pool; leaves nothing attached or mounted from the host. */
  rehearse(vm: PodVm<A>, signal: AbortSignal): Promise<void>;
  /** Ids of those of the named images that are here. */
  imagesHere(names: readonly string[]): readonly string[];
  /** Leaves images attached and mounted in a clone that goes to the pool, each after one run of its program. */
  warmImages(vm: PodVm<A>, ids: readonly string[], signal: AbortSignal): Promise<void>;
  /** What a network that is made before there is a pod is like now; empty when none is to be made, undefined when that cannot be told. */
  networkAhead(): string | undefined;
  newPodId(): string;
  /** Makes the network of the pod that will get this VM, and that will have this id, also if this fails. */
  attachNetwork(podId: string, vm: PodVm<A>, signal: AbortSignal): Promise<void>;
  /** Undoes it: there will be no such pod. Never rejects. */
  detachNetwork(podId: string, vm: PodVm<A>): Promise<void>;
}
