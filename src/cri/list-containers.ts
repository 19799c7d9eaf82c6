import type { Container } from '../podsandbox/model.ts';
import { batches } from './batches.ts';
import type { StreamHandler, UnaryHandler } from './call.ts';
import { filterContainers } from './filters.ts';
import type {
  ContainerFilter,
  ListContainersRequest,
  ListContainersResponse,
  StreamContainersRequest,
  StreamContainersResponse,
} from './gen/cri-types.ts';
import { remembered } from './remembered.ts';
import { filterId } from './resolve.ts';
import type { CriServices } from './services.ts';
import { containerStateOf, shapeContainer } from './shape-container.ts';

function matching({ sandboxes, containers }: CriServices, filter: ContainerFilter | null): readonly Container[] {
  if (filter === null) return containers.list();
  return filterContainers(containers.list(), {
    id: filterId((prefix) => containers.resolve(prefix), filter.id),
    sandboxId: filterId((prefix) => sandboxes.resolve(prefix), filter.pod_sandbox_id),
    state: filter.state === null ? undefined : containerStateOf(filter.state.state),
    labels: filter.label_selector,
  });
}

export function listContainers(services: CriServices): UnaryHandler<ListContainersRequest, ListContainersResponse> {
  const shaped = remembered(shapeContainer);
  return async ({ filter }) => ({ containers: matching(services, filter).map(shaped) });
}

export function streamContainers(
  services: CriServices,
): StreamHandler<StreamContainersRequest, StreamContainersResponse> {
  return async function* ({ filter }) {
    for (const batch of batches(matching(services, filter))) yield { containers: batch.map(shapeContainer) };
  };
}
