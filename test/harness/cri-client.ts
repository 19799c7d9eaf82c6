import {
  type ClientReadableStream,
  credentials,
  makeGenericClientConstructor,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import type { Client } from '@grpc/grpc-js';
import type { Outgoing } from '../../src/cri/call.ts';
import { criServices } from '../../src/cri/proto.ts';
import type * as cri from '../../src/cri/gen/cri-types.ts';

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

export interface CallOptions {
  readonly timeoutMs?: number;
  /** Cancels the call, as a kubelet does whose own deadline has passed. */
  readonly signal?: AbortSignal;
}

const defaultTimeoutMs = 120_000;

/** A CRI client as thin as possible: names of calls and fields are those of the API. */
export class CriClient implements Disposable {
  readonly #clients: readonly Client[];

  constructor(socket: string) {
    const { runtime, image } = criServices();
    this.#clients = [runtime, image].map(
      (service) =>
        new (makeGenericClientConstructor(service, 'cri'))(`unix:${socket}`, credentials.createInsecure(), {
          // Found out at once, not after a back-off, that a daemon is there again.
          'grpc.initial_reconnect_backoff_ms': 50,
          'grpc.max_reconnect_backoff_ms': 200,
          'grpc.max_receive_message_length': 64 << 20,
          // Two clients of one process are two connections, as two programs are.
          'grpc.use_local_subchannel_pool': 1,
        }),
    );
  }

  /** Rejects with grpc-js's ServiceError: code, details. */
  async call<Name extends keyof UnaryCalls>(
    name: Name,
    request: Outgoing<UnaryCalls[Name][0]>,
    options: CallOptions = {},
  ): Promise<UnaryCalls[Name][1]> {
    const { promise, resolve, reject } = Promise.withResolvers<UnaryCalls[Name][1]>();
    const method = this.#method(name) as unknown as (
      request: unknown,
      metadata: Metadata,
      options: { readonly deadline: number },
      done: (error: ServiceError | null, response: UnaryCalls[Name][1]) => void,
    ) => { cancel(): void };
    const deadline = Date.now() + (options.timeoutMs ?? defaultTimeoutMs);
    const call = method(request, new Metadata(), { deadline }, (error, response) => {
      if (error === null) resolve(response);
      else reject(error);
    });
    const cancel = (): void => {
      call.cancel();
    };
    options.signal?.addEventListener('abort', cancel, { once: true });
    if (options.signal?.aborted === true) cancel();
    try {
      return await promise;
    } finally {
      options.signal?.removeEventListener('abort', cancel);
    }
  }

  /** The items as they come; ending the loop cancels the call. */
  async *stream<Name extends keyof StreamCalls>(
    name: Name,
    request: Outgoing<StreamCalls[Name][0]>,
  ): AsyncGenerator<StreamCalls[Name][1], void, undefined> {
    const method = this.#method(name) as unknown as (request: unknown) => ClientReadableStream<StreamCalls[Name][1]>;
    const call = method(request);
    try {
      for await (const item of call) yield item as StreamCalls[Name][1];
    } finally {
      call.cancel();
    }
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #method(name: string): () => void {
    for (const client of this.#clients) {
      const method: unknown = (client as unknown as Record<string, unknown>)[name];
      if (typeof method === 'function') return method.bind(client) as () => void;
    }
    throw new Error(`cri client: no call ${name}`);
  }
}
