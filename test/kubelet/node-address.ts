import { execa } from 'execa';

/** Of the node: a kubelet wants one that is not the loopback's (RFC 5737). */
export const nodeAddress = '192.0.2.1';

const toolTimeoutMs = 10_000;

/** Gives a private host that address, on a bridge that leads nowhere, and a default route. */
export async function addNodeAddress(): Promise<void> {
  const ip = (...args: readonly string[]): Promise<unknown> => execa('ip', args, { timeout: toolTimeoutMs });
  await ip('link', 'add', 'node0', 'type', 'bridge');
  await ip('address', 'add', `${nodeAddress}/24`, 'dev', 'node0');
  await ip('link', 'set', 'node0', 'up');
  await ip('route', 'add', 'default', 'dev', 'node0');
}
