import { AppError } from '../platform/errors.ts';
import { runBatch } from './host-tool.ts';
import { TAP_NAME } from './network-namespaces.ts';

/**
 * Connects a pod's interface and the tap, frame by frame in both directions: what one receives leaves
 * by the other. Unlike a bridge this learns no addresses and costs one hook; unlike macvtap it works
 * with any kind of interface that a plugin may have made.
 *
 * u32 that matches everything, and not matchall: small kernels lack that classifier. The keyword
 * `ingress` fits both an ingress and a clsact qdisc, and `replace` under a fixed handle lets a retry
 * of ADD, with a new interface, point the tap's filter at that one.
 *
 * Offloads need nothing turned off. The redirected packet is transmitted by the other device in the
 * ordinary way, which completes checksums and cuts up segments exactly when that device cannot: into
 * the tap they pass as they are if the guest has accepted offloads (virtio-net header), out of a veth
 * always.
 */
export async function joinTap(netns: string, interfaceName: string): Promise<void> {
  const redirects = [redirect(interfaceName, TAP_NAME), redirect(TAP_NAME, interfaceName)];
  try {
    await runBatch('tc', [`qdisc add dev ${interfaceName} ingress`, ...redirects], netns);
  } catch (error) {
    // A plugin may have put a clsact qdisc there already, which serves as well and must stay.
    if (!(error instanceof AppError && /exclusivity flag|file exists/i.test(error.message))) throw error;
    await runBatch('tc', redirects, netns);
  }
}

/** Frames of the pod's MTU must fit through the tap. */
export async function setTapMtu(netns: string, mtu: number): Promise<void> {
  await runBatch('ip', [`link set dev ${TAP_NAME} mtu ${String(mtu)}`], netns);
}

function redirect(from: string, to: string): string {
  return `filter replace dev ${from} ingress pref 1 handle 800::1 protocol all u32 match u8 0 0 action mirred egress redirect dev ${to}`;
}
