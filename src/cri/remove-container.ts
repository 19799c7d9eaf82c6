import type { UnaryHandler } from './call.ts';
import type { RemoveContainerRequest, RemoveContainerResponse } from './gen/cri-types.ts';
import { findContainer } from './resolve.ts';
import type { CriServices } from './services.ts';

/** Unknown ids are fine: the kubelet does not accept NOT_FOUND here. */
export function removeContainer({
  containers,
}: CriServices): UnaryHandler<RemoveContainerRequest, RemoveContainerResponse> {
  return async (request) => {
    const id = findContainer(containers, request.container_id);
    if (id !== undefined) await containers.remove(id);
    return {};
  };
}
