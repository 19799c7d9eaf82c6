import type { Outgoing } from '../call.ts';
import type { UnaryCalls } from '../calls.ts';
import type * as cri from '../gen/cri-types.ts';

/** A pod by the id our clients know and the one the host runtime knows; mostly the same. */
export interface HostPod {
  readonly id: string;
  readonly hostId: string;
}

export type HostRuntimeState = { readonly up: true } | { readonly up: false; readonly message: string };

/**
 * The other CRI runtime of the node, for pods that cannot live in a virtual machine. Shows only the pods
 * that were sent there from here, by the ids and labels our clients know. Errors come with its code
 * and words; without an answer they are `unavailable`.
 */
export interface HostRuntime {
  readonly endpoint: string;
  /** Our runtime handlers that stand for it, and what each one is called there. */
  readonly handlers: ReadonlyMap<string, string>;

  /** RunPodSandbox for one of our handlers. `id`: what the pod is to be called, when it has a name already. */
  run(config: cri.PodSandboxConfig, handler: string, id: string | undefined, signal: AbortSignal): Promise<string>;
  /** CreateContainer; the id. */
  create(pod: HostPod, request: cri.CreateContainerRequest, signal: AbortSignal): Promise<string>;
  /** Any other call; ids in the request are those that it knows. */
  call<Name extends keyof UnaryCalls>(
    name: Name,
    request: Outgoing<UnaryCalls[Name][0]>,
    signal: AbortSignal,
  ): Promise<UnaryCalls[Name][1]>;

  /** Whose id starts with the prefix. */
  findSandbox(prefix: string): Promise<HostPod | undefined>;
  findContainer(prefix: string): Promise<string | undefined>;
  /** Within about a second; as it was when the runtime last answered while it does not. */
  sandboxes(): Promise<readonly cri.PodSandbox[]>;
  containers(): Promise<readonly cri.Container[]>;

  /** Figures: within about a second, none while the runtime does not answer. */
  containerStats(): Promise<readonly cri.ContainerStats[]>;
  sandboxStats(): Promise<readonly cri.PodSandboxStats[]>;
  metrics(): Promise<readonly cri.PodSandboxMetrics[]>;
  metricDescriptors(): Promise<readonly cri.MetricDescriptor[]>;
  fileSystems(): Promise<cri.ImageFsInfoResponse | undefined>;

  /** Until the signal, over restarts of the runtime. */
  events(signal: AbortSignal): AsyncIterable<cri.ContainerEventResponse>;

  state(): Promise<HostRuntimeState>;
  /** Its own answer; undefined while there is none. */
  status(verbose: boolean): Promise<cri.StatusResponse | undefined>;
  /** UpdateRuntimeConfig, now and whenever the runtime comes back. */
  configure(request: Outgoing<cri.UpdateRuntimeConfigRequest>): Promise<void>;
}
