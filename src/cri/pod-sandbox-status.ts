import type { UnaryHandler } from './call.ts';
import type { PodSandboxStatusRequest, PodSandboxStatusResponse } from './gen/cri-types.ts';
import { needSandbox } from './resolve.ts';
import type { CriServices } from './services.ts';
import { sandboxInfo, shapeSandboxStatus } from './shape-sandbox.ts';
import { verboseInfo } from './verbose-info.ts';

/** Leaves containers_statuses and timestamp out: the kubelet then asks for each container, as it does anyway. */
export function podSandboxStatus({
  sandboxes,
}: CriServices): UnaryHandler<PodSandboxStatusRequest, PodSandboxStatusResponse> {
  return async (request) => {
    const sandbox = sandboxes.get(needSandbox(sandboxes, request.pod_sandbox_id));
    return {
      status: shapeSandboxStatus(sandbox),
      info: request.verbose ? verboseInfo({ info: sandboxInfo(sandbox, sandboxes.traces(sandbox.id)) }) : {},
    };
  };
}
