import type { Outgoing } from '../call.ts';
import type * as cri from '../gen/cri-types.ts';
import type { CriServices } from '../services.ts';

/**
 * kubectl and crictl may bring SPDY in a WebSocket, which the streaming servers of other runtimes do
 * not take: ours stands between. Not where there is TLS: whom to trust is the client's to say.
 */
export function relayedPortForward(
  { url }: cri.PortForwardResponse,
  { streaming }: Pick<CriServices, 'streaming'>,
): Outgoing<cri.PortForwardResponse> {
  const relay = new URL(url);
  return { url: relay.protocol === 'http:' ? streaming.urlFor({ kind: 'portforward', relay }) : url };
}
