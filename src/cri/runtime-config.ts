import type { UnaryHandler } from './call.ts';
import type {
  RuntimeConfigRequest,
  RuntimeConfigResponse,
  UpdateRuntimeConfigRequest,
  UpdateRuntimeConfigResponse,
} from './gen/cri-types.ts';
import type { CriServices } from './services.ts';

export function runtimeConfig({ runtime }: CriServices): UnaryHandler<RuntimeConfigRequest, RuntimeConfigResponse> {
  const driver = runtime.cgroupDriver === 'systemd' ? 'SYSTEMD' : 'CGROUPFS';
  return async () => ({ linux: { cgroup_driver: driver } });
}

/** The kubelet sends one CIDR, two with a comma between them, or none. Plugins that take address ranges get them. */
export function updateRuntimeConfig({
  networks,
}: CriServices): UnaryHandler<UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse> {
  return async ({ runtime_config: config }, { log }) => {
    const podCidr = config?.network_config?.pod_cidr ?? '';
    networks.setPodCidrs(podCidr.split(',').filter((cidr) => cidr !== ''));
    log.info({ podCidr }, 'the node was given its pod network');
    return {};
  };
}
