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

/** Addresses are the CNI plugins' business; the pod CIDR is only noted. */
export function updateRuntimeConfig(): UnaryHandler<UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse> {
  return async ({ runtime_config: config }, { log }) => {
    log.info({ podCidr: config?.network_config?.pod_cidr ?? '' }, 'the node was given its pod network');
    return {};
  };
}
