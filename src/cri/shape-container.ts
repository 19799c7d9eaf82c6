import type { Container, ContainerState } from '../podsandbox/model.ts';
import type { RequestTrace } from '../podsandbox/trace-model.ts';
import type { Outgoing } from './call.ts';
import type * as cri from './gen/cri-types.ts';
import { shapeMount } from './parse-mounts.ts';
import { shapeResources } from './parse-resources.ts';
import { shapeSignal } from './signals.ts';

const states: Readonly<Record<ContainerState, cri.ContainerState>> = {
  created: 'CONTAINER_CREATED',
  running: 'CONTAINER_RUNNING',
  exited: 'CONTAINER_EXITED',
  unknown: 'CONTAINER_UNKNOWN',
};

const byName: Readonly<Record<cri.ContainerState, ContainerState>> = {
  CONTAINER_CREATED: 'created',
  CONTAINER_RUNNING: 'running',
  CONTAINER_EXITED: 'exited',
  CONTAINER_UNKNOWN: 'unknown',
};

export function containerStateOf(state: cri.ContainerState): ContainerState {
  return byName[state];
}

function imageSpec({ config }: Container): Outgoing<cri.ImageSpec> {
  return {
    image: config.image,
    annotations: config.imageAnnotations,
    user_specified_image: config.userSpecifiedImage,
  };
}

export function shapeContainer(container: Container): Outgoing<cri.Container> {
  const { config } = container;
  return {
    id: container.id,
    pod_sandbox_id: container.sandboxId,
    metadata: config.metadata,
    image: imageSpec(container),
    image_ref: container.imageRef,
    image_id: container.imageId,
    state: states[container.state],
    created_at: String(container.createdAt),
    labels: config.labels,
    annotations: config.annotations,
  };
}

export function shapeContainerStatus(container: Container): Outgoing<cri.ContainerStatus> {
  const { config, user, resources } = container;
  return {
    id: container.id,
    metadata: config.metadata,
    state: states[container.state],
    created_at: String(container.createdAt),
    started_at: String(container.startedAt),
    finished_at: String(container.finishedAt),
    exit_code: container.exitCode,
    image: imageSpec(container),
    image_ref: container.imageRef,
    image_id: container.imageId,
    reason: container.reason,
    message: container.message,
    labels: config.labels,
    annotations: config.annotations,
    mounts: config.mounts.map(shapeMount),
    log_path: container.logPath,
    resources: resources === undefined ? null : { linux: shapeResources(resources) },
    user: {
      linux: {
        uid: String(user.uid),
        gid: String(user.gid),
        supplemental_groups: user.supplementalGroups.map(String),
      },
    },
    stop_signal: shapeSignal(container.stopSignal),
  };
}

/** For people: what crictl inspect shows besides the status. */
export function containerInfo(
  container: Container,
  traces: readonly RequestTrace[],
): Readonly<Record<string, unknown>> {
  return {
    sandboxID: container.sandboxId,
    // Of the guest: there is no process of the container on the host.
    pid: container.pid,
    runtimeType: 'kelyfos',
    startup: traces,
    config: container.config,
  };
}
