import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { AppError } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { attach } from './attach.ts';
import type { StreamHandler, UnaryHandler } from './call.ts';
import { containerStats, listContainerStats, streamContainerStats } from './container-stats.ts';
import { containerStatus } from './container-status.ts';
import { createContainer } from './create-container.ts';
import { exec } from './exec.ts';
import { execSync } from './exec-sync.ts';
import { getContainerEvents } from './get-container-events.ts';
import { imageFsInfo } from './image-fs-info.ts';
import { imageStatus } from './image-status.ts';
import { streaming, unary } from './instrument.ts';
import { listContainers, streamContainers } from './list-containers.ts';
import { listImages, streamImages } from './list-images.ts';
import { listPodSandbox, streamPodSandboxes } from './list-pod-sandboxes.ts';
import type { MixedHandlers } from './mixed/handlers.ts';
import { listMetricDescriptors, listPodSandboxMetrics, streamPodSandboxMetrics } from './pod-sandbox-metrics.ts';
import { listPodSandboxStats, podSandboxStats, streamPodSandboxStats } from './pod-sandbox-stats.ts';
import { podSandboxStatus } from './pod-sandbox-status.ts';
import { portForward } from './port-forward.ts';
import { pullImage } from './pull-image.ts';
import { removeContainer } from './remove-container.ts';
import { removeImage } from './remove-image.ts';
import { removePodSandbox } from './remove-pod-sandbox.ts';
import { reopenContainerLog } from './reopen-container-log.ts';
import { runPodSandbox } from './run-pod-sandbox.ts';
import { runtimeConfig, updateRuntimeConfig } from './runtime-config.ts';
import type { CriServices } from './services.ts';
import { startContainer } from './start-container.ts';
import { status } from './status.ts';
import { stopContainer } from './stop-container.ts';
import { stopPodSandbox } from './stop-pod-sandbox.ts';
import { updateContainerResources } from './update-container-resources.ts';
import { updatePodSandboxResources } from './update-pod-sandbox-resources.ts';
import { version } from './version.ts';

// Requests come from the loader in the shape of gen/cri-types.ts; which type belongs to which call is
// written once, in each handler.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyUnary = UnaryHandler<any, any>;
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyStream = StreamHandler<any, any>;

function unaryHandlers(services: CriServices): Readonly<Record<string, AnyUnary>> {
  return {
    Version: version(services),
    Status: status(services),
    RuntimeConfig: runtimeConfig(services),
    UpdateRuntimeConfig: updateRuntimeConfig(services),
    RunPodSandbox: runPodSandbox(services),
    StopPodSandbox: stopPodSandbox(services),
    RemovePodSandbox: removePodSandbox(services),
    PodSandboxStatus: podSandboxStatus(services),
    ListPodSandbox: listPodSandbox(services),
    CreateContainer: createContainer(services),
    StartContainer: startContainer(services),
    StopContainer: stopContainer(services),
    RemoveContainer: removeContainer(services),
    ListContainers: listContainers(services),
    ContainerStatus: containerStatus(services),
    UpdateContainerResources: updateContainerResources(services),
    UpdatePodSandboxResources: updatePodSandboxResources(services),
    ReopenContainerLog: reopenContainerLog(services),
    ExecSync: execSync(services),
    Exec: exec(services),
    Attach: attach(services),
    PortForward: portForward(services),
    ContainerStats: containerStats(services),
    ListContainerStats: listContainerStats(services),
    PodSandboxStats: podSandboxStats(services),
    ListPodSandboxStats: listPodSandboxStats(services),
    ListMetricDescriptors: listMetricDescriptors(),
    ListPodSandboxMetrics: listPodSandboxMetrics(services),
    ListImages: listImages(services),
    ImageStatus: imageStatus(services),
    PullImage: pullImage(services),
    RemoveImage: removeImage(services),
    ImageFsInfo: imageFsInfo(services),
  };
}

function streamHandlers(services: CriServices): Readonly<Record<string, AnyStream>> {
  return {
    GetContainerEvents: getContainerEvents(services),
    StreamPodSandboxes: streamPodSandboxes(services),
    StreamContainers: streamContainers(services),
    StreamContainerStats: streamContainerStats(services),
    StreamPodSandboxStats: streamPodSandboxStats(services),
    StreamPodSandboxMetrics: streamPodSandboxMetrics(services),
    StreamImages: streamImages(services),
  };
}

/** A call of the API that this version does not have. */
function missing(rpc: string, services: CriServices): never {
  throw new AppError('unimplemented', `${rpc} is not implemented in kelyfos ${services.runtime.version}`);
}

/** All calls of a service, each wrapped; those without a handler answer UNIMPLEMENTED with their name. `mixed`: one for all services. */
export function implementation(
  definition: ServiceDefinition,
  services: CriServices,
  log: Log,
  mixed?: MixedHandlers,
): UntypedServiceImplementation {
  const unaries = unaryHandlers(services);
  const streams = streamHandlers(services);
  const unaryOf = (rpc: string): AnyUnary => {
    const own: AnyUnary = unaries[rpc] ?? (async () => missing(rpc, services));
    return mixed?.unary(rpc, own) ?? own;
  };
  const streamOf = (rpc: string): AnyStream => {
    const own: AnyStream =
      streams[rpc] ??
      // eslint-disable-next-line require-yield -- ends before there is anything to yield
      async function* () {
        missing(rpc, services);
      };
    return mixed?.stream(rpc, own) ?? own;
  };
  return Object.fromEntries(
    Object.entries(definition).map(([rpc, { responseStream }]) => [
      rpc,
      responseStream ? streaming(rpc, streamOf(rpc), log) : unary(rpc, unaryOf(rpc), log),
    ]),
  );
}
