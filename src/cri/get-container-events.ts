import type { PodEventType } from '../podsandbox/pod-events.ts';
import type { StreamHandler } from './call.ts';
import type { ContainerEventResponse, ContainerEventType, GetEventsRequest } from './gen/cri-types.ts';
import type { CriServices } from './services.ts';
import { shapeContainerStatus } from './shape-container.ts';
import { shapeSandboxStatus } from './shape-sandbox.ts';

const types: Readonly<Record<PodEventType, ContainerEventType>> = {
  created: 'CONTAINER_CREATED_EVENT',
  started: 'CONTAINER_STARTED_EVENT',
  stopped: 'CONTAINER_STOPPED_EVENT',
  deleted: 'CONTAINER_DELETED_EVENT',
};

/** Goes on until the client leaves, or falls too far behind. */
export function getContainerEvents({ events }: CriServices): StreamHandler<GetEventsRequest, ContainerEventResponse> {
  return async function* (_request, { signal }) {
    for await (const { type, id, at, sandbox, containers } of events.subscribe(signal)) {
      yield {
        container_id: id,
        container_event_type: types[type],
        created_at: String(at),
        pod_sandbox_status: shapeSandboxStatus(sandbox),
        containers_statuses: containers.map(shapeContainerStatus),
      };
    }
  };
}
