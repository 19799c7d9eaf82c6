import type { Duplex } from 'node:stream';
import { messageOf } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';
import type { SandboxId } from '../../podsandbox/ids.ts';
import type { PodSandboxes } from '../../podsandbox/model.ts';

export type PortForwardDomain = Pick<PodSandboxes, 'portForward'>;

/** One connection with a port of the pod, from its beginning to its end; a failure is told on `error`. */
export async function forwardPort(
  { sandboxId, port, data, error }: { sandboxId: SandboxId; port: number; data: Duplex; error: Duplex },
  domain: PortForwardDomain,
  signal: AbortSignal,
  log: Log,
): Promise<void> {
  const fields = { port };
  const started = performance.now();
  // The client closes its side of it at once, or never writes.
  error.resume();
  try {
    await domain.portForward(sandboxId, port, data, signal);
    error.end();
    log.debug({ ...fields, ms: Math.round(performance.now() - started) }, 'port forwarded');
  } catch (thrown) {
    log.warn({ ...fields, error: messageOf(thrown) }, 'port forward');
    error.end(`error forwarding port ${String(port)} to pod sandbox ${sandboxId}: ${messageOf(thrown)}`);
  }
  // Whatever the client still sends has no receiver.
  data.resume();
  data.end();
}
