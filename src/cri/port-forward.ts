import { AppError } from '../platform/errors.ts';
import type { UnaryHandler } from './call.ts';
import { invalid } from './fields.ts';
import type { PortForwardRequest, PortForwardResponse } from './gen/cri-types.ts';
import { needSandbox } from './resolve.ts';
import type { CriServices } from './services.ts';

/** Clients that name the port of each connection themselves ask for none here. */
export function portForward({
  sandboxes,
  streaming,
}: CriServices): UnaryHandler<PortForwardRequest, PortForwardResponse> {
  return async (request) => {
    const sandboxId = needSandbox(sandboxes, request.pod_sandbox_id);
    for (const port of request.port) {
      if (port < 1 || port > 0xffff) throw invalid('port', `${String(port)} is not a port (1 to 65535)`);
    }
    if (sandboxes.get(sandboxId).state !== 'ready') {
      throw new AppError('failed-precondition', `pod sandbox ${sandboxId} is not ready`);
    }
    return { url: streaming.urlFor({ kind: 'portforward', sandboxId, ports: request.port }) };
  };
}
