import type { Outgoing, UnaryHandler } from '../call.ts';
import type { UnaryCalls } from '../calls.ts';
import type { HostRuntime } from './host-runtime.ts';
import type { Owners } from './owners.ts';

/** Calls about one pod or container, by the field that names it. */
export const callsByOwner = {
  StopPodSandbox: 'pod_sandbox_id',
  RemovePodSandbox: 'pod_sandbox_id',
  PodSandboxStatus: 'pod_sandbox_id',
  PortForward: 'pod_sandbox_id',
  PodSandboxStats: 'pod_sandbox_id',
  UpdatePodSandboxResources: 'pod_sandbox_id',
  CheckpointPod: 'pod_sandbox_id',
  StartContainer: 'container_id',
  StopContainer: 'container_id',
  RemoveContainer: 'container_id',
  ContainerStatus: 'container_id',
  UpdateContainerResources: 'container_id',
  ReopenContainerLog: 'container_id',
  ExecSync: 'container_id',
  Exec: 'container_id',
  Attach: 'container_id',
  ContainerStats: 'container_id',
  CheckpointContainer: 'container_id',
} as const satisfies Partial<Record<keyof UnaryCalls, 'pod_sandbox_id' | 'container_id'>>;

type CallByOwner = keyof typeof callsByOwner;
type AnyRequest = Readonly<Record<string, unknown>>;

/**
 * A call that goes to whom the pod or container belongs. What is nobody's is answered by our own handler.
 * `adapt` is done to what the host runtime answers.
 */
export function byOwner<Name extends CallByOwner>(
  rpc: Name,
  own: UnaryHandler<AnyRequest, object>,
  owners: Owners,
  host: HostRuntime,
  adapt: (response: UnaryCalls[Name][1]) => object = (response) => response,
): UnaryHandler<AnyRequest, object> {
  const field = callsByOwner[rpc];
  return async (request, call) => {
    const id = request[field];
    if (typeof id !== 'string' || id === '') return own(request, call);
    const hostId = await hostIdOf(id, field, owners);
    if (hostId === undefined) return own(request, call);
    const theirs: AnyRequest = { ...request, [field]: hostId };
    return adapt(await host.call(rpc, theirs as Outgoing<UnaryCalls[Name][0]>, call.signal));
  };
}

async function hostIdOf(
  id: string,
  field: 'pod_sandbox_id' | 'container_id',
  owners: Owners,
): Promise<string | undefined> {
  if (field === 'container_id') {
    const owner = await owners.container(id);
    return owner !== undefined && 'host' in owner ? owner.host : undefined;
  }
  const owner = await owners.sandbox(id);
  return owner !== undefined && 'host' in owner ? owner.host.hostId : undefined;
}
