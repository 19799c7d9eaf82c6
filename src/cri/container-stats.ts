import { AppError } from '../platform/errors.ts';
import type { SandboxId } from '../podsandbox/ids.ts';
import type { ContainerStats } from '../podsandbox/stats-model.ts';
import { batches } from './batches.ts';
import type { StreamHandler, UnaryHandler } from './call.ts';
import { filterContainers } from './filters.ts';
import type {
  ContainerStatsFilter,
  ContainerStatsRequest,
  ContainerStatsResponse,
  ListContainerStatsRequest,
  ListContainerStatsResponse,
  StreamContainerStatsRequest,
  StreamContainerStatsResponse,
} from './gen/cri-types.ts';
import { filterId, needContainer } from './resolve.ts';
import type { CriServices } from './services.ts';
import { shapeContainerStats } from './shape-stats.ts';

/** Asks only the pods that have one of the containers wanted. */
async function matching(
  { sandboxes, containers, stats }: CriServices,
  filter: ContainerStatsFilter | null,
): Promise<readonly ContainerStats[]> {
  const wanted = filterContainers(containers.list(), {
    id: filterId((prefix) => containers.resolve(prefix), filter?.id ?? ''),
    sandboxId: filterId((prefix) => sandboxes.resolve(prefix), filter?.pod_sandbox_id ?? ''),
    state: undefined,
    labels: filter?.label_selector ?? {},
  });
  const ids = new Set<string>(wanted.map(({ id }) => id));
  const pods = new Set<SandboxId>(wanted.map(({ sandboxId }) => sandboxId));
  const found = await stats.of([...pods]);
  return found.flatMap((pod) => pod.containers).filter(({ container }) => ids.has(container.id));
}

export function containerStats(services: CriServices): UnaryHandler<ContainerStatsRequest, ContainerStatsResponse> {
  return async ({ container_id: prefix }) => {
    const id = needContainer(services.containers, prefix);
    const { sandboxId } = services.containers.get(id);
    const [pod] = await services.stats.of([sandboxId]);
    const found = pod?.containers.find(({ container }) => container.id === id);
    if (found === undefined) {
      throw new AppError('unavailable', `container "${id}": its pod does not run, or its guest does not answer`);
    }
    return { stats: shapeContainerStats(found, services.images.mountpoint) };
  };
}

export function listContainerStats(
  services: CriServices,
): UnaryHandler<ListContainerStatsRequest, ListContainerStatsResponse> {
  return async ({ filter }) => ({
    stats: (await matching(services, filter)).map((it) => shapeContainerStats(it, services.images.mountpoint)),
  });
}

export function streamContainerStats(
  services: CriServices,
): StreamHandler<StreamContainerStatsRequest, StreamContainerStatsResponse> {
  return async function* ({ filter }) {
    for (const batch of batches(await matching(services, filter))) {
      yield { container_stats: batch.map((it) => shapeContainerStats(it, services.images.mountpoint)) };
    }
  };
}
