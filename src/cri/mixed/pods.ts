import { AppError } from '../../platform/errors.ts';
import { KeyedMutex } from '../../platform/keyed-mutex.ts';
import type { CallContext, UnaryHandler } from '../call.ts';
import { required } from '../fields.ts';
import type * as cri from '../gen/cri-types.ts';
import type { CriServices } from '../services.ts';
import type { HostImages } from './host-images.ts';
import type { HostPod, HostRuntime } from './host-runtime.ts';
import type { Owners } from './owners.ts';
import { wantsBidirectional, wantsHost } from './wants-host.ts';

type RunPod = UnaryHandler<cri.RunPodSandboxRequest, cri.RunPodSandboxResponse>;
type Create = UnaryHandler<cri.CreateContainerRequest, cri.CreateContainerResponse>;

/** RunPodSandbox: whole pods that need the host go to the host runtime. */
export function runPodSandbox(own: RunPod, host: HostRuntime): RunPod {
  return async (request, call) => {
    const { config, runtime_handler: handler } = request;
    if (!wantsHost(config, handler, host.handlers)) return own(request, call);
    return { pod_sandbox_id: await host.run(required(config, 'config'), handler, undefined, call.signal) };
  };
}

/**
 * CreateContainer. Bidirectional mount propagation is asked for by a container, when its pod is a
 * virtual machine already: a pod without containers moves to the host runtime then, and keeps its id
 * (docs/adr/0005-host-runtime.md).
 */
export function createContainer(
  own: Create,
  services: CriServices,
  host: HostRuntime,
  { owners, images }: { readonly owners: Owners; readonly images: HostImages },
): Create {
  const moving = new KeyedMutex();
  return async (request, call) => {
    const owner = request.pod_sandbox_id === '' ? undefined : await owners.sandbox(request.pod_sandbox_id);
    if (owner === undefined) return own(request, call);
    if ('host' in owner) return create(owner.host, request, call);
    if (!wantsBidirectional(request.config)) return own(request, call);
    const pod = await moving.run(owner.own, () => move(owner.own, request, call));
    return create(pod, request, call);
  };

  async function create(pod: HostPod, request: cri.CreateContainerRequest, call: CallContext) {
    const config = required(request.config, 'config');
    const image = await images.ensure(required(config.image, 'config.image'), request.sandbox_config, call);
    return { container_id: await host.create(pod, { ...request, config: { ...config, image } }, call.signal) };
  }

  async function move(id: string, request: cri.CreateContainerRequest, call: CallContext): Promise<HostPod> {
    // It is there already when another container was first, or when an earlier move was cut short.
    if ((await host.findSandbox(id)) === undefined) await startThere(id, request, call);
    await services.sandboxes.remove(id);
    const pod = await host.findSandbox(id);
    if (pod === undefined)
      throw new AppError('internal', `pod sandbox ${id} is not in the host runtime after its move`);
    return pod;
  }

  async function startThere(id: string, request: cri.CreateContainerRequest, { signal, log }: CallContext) {
    const config = required(request.sandbox_config, 'sandbox_config');
    const { runtimeHandler } = services.sandboxes.get(id);
    if (services.containers.list().some(({ sandboxId }) => sandboxId === id)) {
      throw new AppError(
        'failed-precondition',
        `pod sandbox ${id} has containers in a virtual machine already, so it cannot move to the host runtime for ` +
          'Bidirectional mount propagation: give the pod a RuntimeClass whose handler has runtime = "host"',
      );
    }
    log.info({ sandboxId: id }, 'bidirectional mount propagation: the pod moves to the host runtime');
    // First its network and ports are given back, which the other runtime takes next.
    await services.sandboxes.stop(id);
    await host.run(config, runtimeHandler, id, signal);
  }
}
