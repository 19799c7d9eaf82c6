import type { UnaryHandler } from './call.ts';
import type { ReopenContainerLogRequest, ReopenContainerLogResponse } from './gen/cri-types.ts';
import { needContainer } from './resolve.ts';
import type { CriServices } from './services.ts';

export function reopenContainerLog({
  containers,
}: CriServices): UnaryHandler<ReopenContainerLogRequest, ReopenContainerLogResponse> {
  return async (request) => {
    await containers.reopenLog(needContainer(containers, request.container_id));
    return {};
  };
}
