import type { Outgoing, UnaryHandler } from '../call.ts';
import type * as cri from '../gen/cri-types.ts';
import { commonLabels, descriptorOf } from '../metrics/catalogue.ts';
import { commonValues, imageLabel } from '../metrics/label-values.ts';
import type { HostRuntime } from './host-runtime.ts';

/**
 * Metrics of the host runtime, with our labels. The kubelet takes one descriptor for each name, and runtimes
 * agree on names only; some do not keep to their own descriptors. So the common labels are written
 * anew from what the lists say, and of theirs those are kept that a metric has beside them: the last ones,
 * with every runtime.
 */
type Descriptors = UnaryHandler<cri.ListMetricDescriptorsRequest, cri.ListMetricDescriptorsResponse>;

const common: ReadonlySet<string> = new Set(commonLabels);

/** Ours, and what only the host runtime measures. */
export function listMetricDescriptors(own: Descriptors, host: HostRuntime): Descriptors {
  return async (request, call) => {
    const [ours, theirs] = await Promise.all([own(request, call), host.metricDescriptors()]);
    const more = theirs.filter(({ name }) => descriptorOf(name) === undefined);
    return {
      descriptors: [
        ...(ours.descriptors ?? []),
        ...more.map((it) => ({ ...it, label_keys: [...commonLabels, ...ownLabels(it)] })),
      ],
    };
  };
}

export async function hostMetrics(host: HostRuntime): Promise<readonly Outgoing<cri.PodSandboxMetrics>[]> {
  const [metrics, descriptors, sandboxes, containers] = await Promise.all([
    host.metrics(),
    host.metricDescriptors(),
    host.sandboxes(),
    host.containers(),
  ]);
  const labels = new Map(descriptors.map((it) => [it.name, ownLabels(it)]));
  return metrics.map((pod) => {
    const { name = '', namespace = '' } = sandboxes.find(({ id }) => id === pod.pod_sandbox_id)?.metadata ?? {};
    const labelledPod = { id: pod.pod_sandbox_id, name, namespace };
    return {
      ...pod,
      metrics: relabelled(pod.metrics, labels, commonValues(labelledPod)),
      container_metrics: pod.container_metrics.map((container) => {
        const id = container.container_id;
        const found = containers.find((it) => it.id === id);
        const image = imageLabel(found?.image?.user_specified_image, found?.image?.image);
        const values = commonValues(labelledPod, { id, name: found?.metadata?.name ?? '', image });
        return { ...container, metrics: relabelled(container.metrics, labels, values) };
      }),
    };
  });
}

/** Keys beside the common ones. */
function ownLabels({ label_keys: keys }: cri.MetricDescriptor): readonly string[] {
  return keys.filter((key) => !common.has(key));
}

/** Without those that the runtime itself does not describe. */
function relabelled(
  metrics: readonly cri.Metric[],
  labels: ReadonlyMap<string, readonly string[]>,
  values: readonly string[],
): readonly cri.Metric[] {
  return metrics.flatMap((metric) => {
    const keys = labels.get(metric.name);
    const given = metric.label_values;
    if (keys === undefined || keys.length > given.length) return [];
    const theirs = new Map(keys.map((key, index) => [key, given[given.length - keys.length + index] ?? '']));
    const wanted = descriptorOf(metric.name)?.labels ?? keys;
    // CPU time that is not told for each processor is that of all.
    const otherwise = (key: string): string => (key === 'cpu' ? 'total' : '');
    return [{ ...metric, label_values: [...values, ...wanted.map((key) => theirs.get(key) ?? otherwise(key))] }];
  });
}
