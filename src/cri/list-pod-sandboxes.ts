import type { Sandbox } from '../podsandbox/model.ts';
import { batches } from './batches.ts';
import type { StreamHandler, UnaryHandler } from './call.ts';
import { filterSandboxes } from './filters.ts';
import type {
  ListPodSandboxRequest,
  ListPodSandboxResponse,
  PodSandboxFilter,
  StreamPodSandboxesRequest,
  StreamPodSandboxesResponse,
} from './gen/cri-types.ts';
import { remembered } from './remembered.ts';
import { filterId } from './resolve.ts';
import type { CriServices } from './services.ts';
import { sandboxStateOf, shapeSandbox } from './shape-sandbox.ts';

function matching({ sandboxes }: CriServices, filter: PodSandboxFilter | null): readonly Sandbox[] {
  if (filter === null) return sandboxes.list();
  return filterSandboxes(sandboxes.list(), {
    id: filterId((prefix) => sandboxes.resolve(prefix), filter.id),
    state: filter.state === null ? undefined : sandboxStateOf(filter.state.state),
    labels: filter.label_selector,
  });
}

export function listPodSandbox(services: CriServices): UnaryHandler<ListPodSandboxRequest, ListPodSandboxResponse> {
  const shaped = remembered(shapeSandbox);
  return async ({ filter }) => ({ items: matching(services, filter).map(shaped) });
}

export function streamPodSandboxes(
  services: CriServices,
): StreamHandler<StreamPodSandboxesRequest, StreamPodSandboxesResponse> {
  return async function* ({ filter }) {
    for (const batch of batches(matching(services, filter))) yield { pod_sandboxes: batch.map(shapeSandbox) };
  };
}
