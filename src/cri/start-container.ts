import type { UnaryHandler } from './call.ts';
import type { StartContainerRequest, StartContainerResponse } from './gen/cri-types.ts';
import { needContainer } from './resolve.ts';
import type { CriServices } from './services.ts';

export function startContainer({
  containers,
}: CriServices): UnaryHandler<StartContainerRequest, StartContainerResponse> {
  return async (request, { signal, caller }) => {
    await containers.start(needContainer(containers, request.container_id), signal, caller);
    return {};
  };
}
