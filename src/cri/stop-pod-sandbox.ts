import type { UnaryHandler } from './call.ts';
import type { StopPodSandboxRequest, StopPodSandboxResponse } from './gen/cri-types.ts';
import { findSandbox } from './resolve.ts';
import type { CriServices } from './services.ts';

/** Unknown ids are fine: the kubelet stops again and again. */
export function stopPodSandbox({
  sandboxes,
}: CriServices): UnaryHandler<StopPodSandboxRequest, StopPodSandboxResponse> {
  return async (request) => {
    const id = findSandbox(sandboxes, request.pod_sandbox_id);
    if (id !== undefined) await sandboxes.stop(id);
    return {};
  };
}
