import type { SandboxStats } from '../../podsandbox/stats-model.ts';
import type { Outgoing } from '../call.ts';
import type * as cri from '../gen/cri-types.ts';
import { catalogue, commonLabels } from './catalogue.ts';
import { containerFigures } from './container-figures.ts';
import { shapeMetric } from './figure.ts';
import { commonValues, imageLabel } from './label-values.ts';
import { podFigures } from './pod-figures.ts';

export function shapeDescriptors(): readonly Outgoing<cri.MetricDescriptor>[] {
  return Object.entries(catalogue).map(([name, { help, labels }]) => ({
    name,
    help,
    label_keys: [...commonLabels, ...labels],
  }));
}

/** Of the pod, and of those of its containers that run. */
export function shapePodMetrics(stats: SandboxStats): Outgoing<cri.PodSandboxMetrics> {
  const { sandbox, usage, containers, scratch } = stats;
  const { name, namespace } = sandbox.config.metadata;
  const pod = { id: sandbox.id, name, namespace };
  const ofPod = commonValues(pod);
  return {
    pod_sandbox_id: sandbox.id,
    metrics: podFigures(stats).map((figure) => shapeMetric(figure, ofPod, usage.at)),
    container_metrics: containers
      .filter(({ container }) => container.state === 'running')
      .map((it) => {
        const { id, config } = it.container;
        const image = imageLabel(config.userSpecifiedImage, config.image);
        const common = commonValues(pod, { id, name: config.metadata.name, image });
        return {
          container_id: id,
          metrics: containerFigures(it, scratch).map((figure) => shapeMetric(figure, common, it.at)),
        };
      }),
  };
}
