import type { UnaryHandler } from './call.ts';
import type { ContainerStatusRequest, ContainerStatusResponse } from './gen/cri-types.ts';
import { needContainer } from './resolve.ts';
import type { CriServices } from './services.ts';
import { containerInfo, shapeContainerStatus } from './shape-container.ts';
import { verboseInfo } from './verbose-info.ts';

export function containerStatus({
  containers,
}: CriServices): UnaryHandler<ContainerStatusRequest, ContainerStatusResponse> {
  return async (request) => {
    const container = containers.get(needContainer(containers, request.container_id));
    return {
      status: shapeContainerStatus(container),
      info: request.verbose ? verboseInfo({ info: containerInfo(container, containers.traces(container.id)) }) : {},
    };
  };
}
