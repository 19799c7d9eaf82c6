import type { UnaryHandler } from './call.ts';
import { unsupported } from './fields.ts';
import type { UpdateContainerResourcesRequest, UpdateContainerResourcesResponse } from './gen/cri-types.ts';
import { parseResources } from './parse-resources.ts';
import { needContainer } from './resolve.ts';
import type { CriServices } from './services.ts';

export function updateContainerResources({
  containers,
  resources,
}: CriServices): UnaryHandler<UpdateContainerResourcesRequest, UpdateContainerResourcesResponse> {
  return async (request, { signal }) => {
    if (request.windows !== null) throw unsupported('windows', 'this is a runtime for Linux');
    const id = needContainer(containers, request.container_id);
    const change = parseResources(request.linux, 'linux');
    if (change !== undefined) await resources.container(id, change, signal);
    return {};
  };
}
