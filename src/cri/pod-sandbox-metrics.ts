import type { SandboxStats } from '../podsandbox/stats-model.ts';
import { batches } from './batches.ts';
import type { StreamHandler, UnaryHandler } from './call.ts';
import type {
  ListMetricDescriptorsRequest,
  ListMetricDescriptorsResponse,
  ListPodSandboxMetricsRequest,
  ListPodSandboxMetricsResponse,
  StreamPodSandboxMetricsRequest,
  StreamPodSandboxMetricsResponse,
} from './gen/cri-types.ts';
import { shapeDescriptors, shapePodMetrics } from './metrics/shape-metrics.ts';
import type { CriServices } from './services.ts';

export function listMetricDescriptors(): UnaryHandler<ListMetricDescriptorsRequest, ListMetricDescriptorsResponse> {
  return async () => ({ descriptors: shapeDescriptors() });
}

async function all({ sandboxes, stats }: CriServices): Promise<readonly SandboxStats[]> {
  const ids = sandboxes.list().flatMap(({ id, state }) => (state === 'ready' ? [id] : []));
  return stats.of(ids, true);
}

export function listPodSandboxMetrics(
  services: CriServices,
): UnaryHandler<ListPodSandboxMetricsRequest, ListPodSandboxMetricsResponse> {
  return async () => ({ pod_metrics: (await all(services)).map(shapePodMetrics) });
}

export function streamPodSandboxMetrics(
  services: CriServices,
): StreamHandler<StreamPodSandboxMetricsRequest, StreamPodSandboxMetricsResponse> {
  return async function* () {
    for (const batch of batches(await all(services))) yield { pod_sandbox_metrics: batch.map(shapePodMetrics) };
  };
}
