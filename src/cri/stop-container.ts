import type { UnaryHandler } from './call.ts';
import { int64 } from './fields.ts';
import type { StopContainerRequest, StopContainerResponse } from './gen/cri-types.ts';
import { findContainer } from './resolve.ts';
import type { CriServices } from './services.ts';

/** The longest wait that timers can do, 24 days; clients mean "for ever" by more. */
const maxTimeoutSeconds = 2_147_483n;

/** Seconds; negative ones kill at once, like 0. */
export function stopTimeout(text: string): number {
  const seconds = int64(text);
  if (seconds < 0n) return 0;
  return Number(seconds < maxTimeoutSeconds ? seconds : maxTimeoutSeconds);
}

/** Unknown ids are fine. */
export function stopContainer({ containers }: CriServices): UnaryHandler<StopContainerRequest, StopContainerResponse> {
  return async (request, { signal }) => {
    const id = findContainer(containers, request.container_id);
    if (id !== undefined) await containers.stop(id, stopTimeout(request.timeout), signal);
    return {};
  };
}
