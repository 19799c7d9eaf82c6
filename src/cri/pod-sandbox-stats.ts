import { AppError } from '../platform/errors.ts';
import type { SandboxStats } from '../podsandbox/stats-model.ts';
import { batches } from './batches.ts';
import type { StreamHandler, UnaryHandler } from './call.ts';
import { filterSandboxes } from './filters.ts';
import type {
  ListPodSandboxStatsRequest,
  ListPodSandboxStatsResponse,
  PodSandboxStatsFilter,
  PodSandboxStatsRequest,
  PodSandboxStatsResponse,
  StreamPodSandboxStatsRequest,
  StreamPodSandboxStatsResponse,
} from './gen/cri-types.ts';
import { filterId, needSandbox } from './resolve.ts';
import type { CriServices } from './services.ts';
import { shapeSandboxStats } from './shape-stats.ts';

async function matching(
  { sandboxes, stats }: CriServices,
  filter: PodSandboxStatsFilter | null,
): Promise<readonly SandboxStats[]> {
  const wanted = filterSandboxes(sandboxes.list(), {
    id: filterId((prefix) => sandboxes.resolve(prefix), filter?.id ?? ''),
    state: 'ready',
    labels: filter?.label_selector ?? {},
  });
  return stats.of(wanted.map(({ id }) => id));
}

export function podSandboxStats(services: CriServices): UnaryHandler<PodSandboxStatsRequest, PodSandboxStatsResponse> {
  return async ({ pod_sandbox_id: prefix }) => {
    const id = needSandbox(services.sandboxes, prefix);
    const [found] = await services.stats.of([id]);
    if (found === undefined) throw new AppError('unavailable', `pod sandbox "${id}" is not ready`);
    return { stats: shapeSandboxStats(found, services.images.mountpoint) };
  };
}

export function listPodSandboxStats(
  services: CriServices,
): UnaryHandler<ListPodSandboxStatsRequest, ListPodSandboxStatsResponse> {
  return async ({ filter }) => ({
    stats: (await matching(services, filter)).map((it) => shapeSandboxStats(it, services.images.mountpoint)),
  });
}

export function streamPodSandboxStats(
  services: CriServices,
): StreamHandler<StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse> {
  return async function* ({ filter }) {
    for (const batch of batches(await matching(services, filter))) {
      yield { pod_sandbox_stats: batch.map((it) => shapeSandboxStats(it, services.images.mountpoint)) };
    }
  };
}
