import type { UnaryHandler } from './call.ts';
import type { UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse } from './gen/cri-types.ts';
import { parseResources } from './parse-resources.ts';
import { needSandbox } from './resolve.ts';
import type { CriServices } from './services.ts';

export function updatePodSandboxResources({
  sandboxes,
  resources,
}: CriServices): UnaryHandler<UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse> {
  return async (request, { signal }) => {
    const id = needSandbox(sandboxes, request.pod_sandbox_id);
    const change = {
      resources: parseResources(request.resources, 'resources'),
      overhead: parseResources(request.overhead, 'overhead'),
    };
    await resources.sandbox(id, change, signal);
    return {};
  };
}
