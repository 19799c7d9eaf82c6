import type * as cri from './gen/cri-types.ts';

/** Request and response of each call that answers once. */
export interface UnaryCalls {
  readonly Version: readonly [cri.VersionRequest, cri.VersionResponse];
  readonly RunPodSandbox: readonly [cri.RunPodSandboxRequest, cri.RunPodSandboxResponse];
  readonly StopPodSandbox: readonly [cri.StopPodSandboxRequest, cri.StopPodSandboxResponse];
  readonly RemovePodSandbox: readonly [cri.RemovePodSandboxRequest, cri.RemovePodSandboxResponse];
  readonly PodSandboxStatus: readonly [cri.PodSandboxStatusRequest, cri.PodSandboxStatusResponse];
  readonly ListPodSandbox: readonly [cri.ListPodSandboxRequest, cri.ListPodSandboxResponse];
  readonly CreateContainer: readonly [cri.CreateContainerRequest, cri.CreateContainerResponse];
  readonly StartContainer: readonly [cri.StartContainerRequest, cri.StartContainerResponse];
  readonly StopContainer: readonly [cri.StopContainerRequest, cri.StopContainerResponse];
  readonly RemoveContainer: readonly [cri.RemoveContainerRequest, cri.RemoveContainerResponse];
  readonly ListContainers: readonly [cri.ListContainersRequest, cri.ListContainersResponse];
  readonly ContainerStatus: readonly [cri.ContainerStatusRequest, cri.ContainerStatusResponse];
  readonly UpdateContainerResources: readonly [
    cri.UpdateContainerResourcesRequest,
    cri.UpdateContainerResourcesResponse,
  ];
  readonly ReopenContainerLog: readonly [cri.ReopenContainerLogRequest, cri.ReopenContainerLogResponse];
  readonly ExecSync: readonly [cri.ExecSyncRequest, cri.ExecSyncResponse];
  readonly Exec: readonly [cri.ExecRequest, cri.ExecResponse];
  readonly Attach: readonly [cri.AttachRequest, cri.AttachResponse];
  readonly PortForward: readonly [cri.PortForwardRequest, cri.PortForwardResponse];
  readonly ContainerStats: readonly [cri.ContainerStatsRequest, cri.ContainerStatsResponse];
  readonly ListContainerStats: readonly [cri.ListContainerStatsRequest, cri.ListContainerStatsResponse];
  readonly PodSandboxStats: readonly [cri.PodSandboxStatsRequest, cri.PodSandboxStatsResponse];
  readonly ListPodSandboxStats: readonly [cri.ListPodSandboxStatsRequest, cri.ListPodSandboxStatsResponse];
  readonly UpdateRuntimeConfig: readonly [cri.UpdateRuntimeConfigRequest, cri.UpdateRuntimeConfigResponse];
  readonly Status: readonly [cri.StatusRequest, cri.StatusResponse];
  readonly CheckpointContainer: readonly [cri.CheckpointContainerRequest, cri.CheckpointContainerResponse];
  readonly CheckpointPod: readonly [cri.CheckpointPodRequest, cri.CheckpointPodResponse];
  readonly RestorePod: readonly [cri.RestorePodRequest, cri.RestorePodResponse];
  readonly ListMetricDescriptors: readonly [cri.ListMetricDescriptorsRequest, cri.ListMetricDescriptorsResponse];
  readonly ListPodSandboxMetrics: readonly [cri.ListPodSandboxMetricsRequest, cri.ListPodSandboxMetricsResponse];
  readonly RuntimeConfig: readonly [cri.RuntimeConfigRequest, cri.RuntimeConfigResponse];
  readonly UpdatePodSandboxResources: readonly [
    cri.UpdatePodSandboxResourcesRequest,
    cri.UpdatePodSandboxResourcesResponse,
  ];
  readonly ListImages: readonly [cri.ListImagesRequest, cri.ListImagesResponse];
  readonly ImageStatus: readonly [cri.ImageStatusRequest, cri.ImageStatusResponse];
  readonly PullImage: readonly [cri.PullImageRequest, cri.PullImageResponse];
  readonly RemoveImage: readonly [cri.RemoveImageRequest, cri.RemoveImageResponse];
  readonly ImageFsInfo: readonly [cri.ImageFsInfoRequest, cri.ImageFsInfoResponse];
}

/** Request and item of each call that answers with a stream. */
export interface StreamCalls {
  readonly StreamPodSandboxes: readonly [cri.StreamPodSandboxesRequest, cri.StreamPodSandboxesResponse];
  readonly StreamContainers: readonly [cri.StreamContainersRequest, cri.StreamContainersResponse];
  readonly StreamContainerStats: readonly [cri.StreamContainerStatsRequest, cri.StreamContainerStatsResponse];
  readonly StreamPodSandboxStats: readonly [cri.StreamPodSandboxStatsRequest, cri.StreamPodSandboxStatsResponse];
  readonly GetContainerEvents: readonly [cri.GetEventsRequest, cri.ContainerEventResponse];
  readonly StreamPodSandboxMetrics: readonly [cri.StreamPodSandboxMetricsRequest, cri.StreamPodSandboxMetricsResponse];
  readonly StreamImages: readonly [cri.StreamImagesRequest, cri.StreamImagesResponse];
}
