import type { UnaryHandler } from './call.ts';
import type { RemovePodSandboxRequest, RemovePodSandboxResponse } from './gen/cri-types.ts';
import { findSandbox } from './resolve.ts';
import type { CriServices } from './services.ts';

/** Unknown ids are fine: the kubelet does not accept NOT_FOUND here. */
export function removePodSandbox({
  sandboxes,
}: CriServices): UnaryHandler<RemovePodSandboxRequest, RemovePodSandboxResponse> {
  return async (request) => {
    const id = findSandbox(sandboxes, request.pod_sandbox_id);
    if (id !== undefined) await sandboxes.remove(id);
    return {};
  };
}
