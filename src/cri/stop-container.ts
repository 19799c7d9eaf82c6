import type { UnaryHandler } from './call.ts';
import { timeoutSeconds } from './fields.ts';
import type { StopContainerRequest, StopContainerResponse } from './gen/cri-types.ts';
import { findContainer } from './resolve.ts';
import type { CriServices } from './services.ts';

/** Unknown ids are fine. */
export function stopContainer({ containers }: CriServices): UnaryHandler<StopContainerRequest, StopContainerResponse> {
  return async (request, { signal }) => {
    const id = findContainer(containers, request.container_id);
    if (id !== undefined) await containers.stop(id, timeoutSeconds(request.timeout), signal);
    return {};
  };
}
