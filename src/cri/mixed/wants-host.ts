import type * as cri from '../gen/cri-types.ts';

/** Whether a pod asks for a namespace of the host. */
function usesHostNamespace(config: cri.PodSandboxConfig | null): boolean {
  const options = config?.linux?.security_context?.namespace_options ?? null;
  return options !== null && [options.network, options.pid, options.ipc].includes('NODE');
}

/** Whether a pod goes to the host runtime: by what it asks for, or by its handler. */
export function wantsHost(
  config: cri.PodSandboxConfig | null,
  handler: string,
  hostHandlers: ReadonlyMap<string, string>,
): boolean {
  return hostHandlers.has(handler) || usesHostNamespace(config);
}

/** Mounts made in the container are to appear on the host: no virtual machine can do that. */
export function wantsBidirectional(config: cri.ContainerConfig | null): boolean {
  // A recursive read-only mount excludes it, and is refused as such.
  return (config?.mounts ?? []).some(
    ({ propagation, recursive_read_only: readonly }) => propagation === 'PROPAGATION_BIDIRECTIONAL' && !readonly,
  );
}
