import type {
  ContainerConfig,
  CreateContainerRequest,
  PodSandboxConfig,
  RunPodSandboxRequest,
} from './gen/cri-types.ts';
import { criServices } from './proto.ts';

const { runtime } = criServices();

/** A request as the server would decode it from the wire: with every field that was left out. */
function decoded(rpc: string, request: object): unknown {
  const method = runtime[rpc];
  if (method === undefined) throw new Error(`no call ${rpc}`);
  return method.requestDeserialize(method.requestSerialize(request));
}

export function sandboxConfig(config: object | null): PodSandboxConfig | null {
  return (decoded('RunPodSandbox', { config }) as RunPodSandboxRequest).config;
}

export function containerConfig(config: object | null): ContainerConfig | null {
  return (decoded('CreateContainer', { config }) as CreateContainerRequest).config;
}
