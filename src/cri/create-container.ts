import type { UnaryHandler } from './call.ts';
import type { CreateContainerRequest, CreateContainerResponse } from './gen/cri-types.ts';
import { parseContainerConfig } from './parse-container-config.ts';
import { needSandbox } from './resolve.ts';
import type { CriServices } from './services.ts';

/** The sandbox's configuration in the request is not looked at: the one given to RunPodSandbox counts. */
export function createContainer({
  sandboxes,
  containers,
}: CriServices): UnaryHandler<CreateContainerRequest, CreateContainerResponse> {
  return async (request, { signal, log, caller }) => {
    const sandboxId = needSandbox(sandboxes, request.pod_sandbox_id);
    const config = parseContainerConfig(request.config);
    if ((request.config?.linux?.security_context?.selinux_options ?? null) !== null) {
      log.warn(
        { container: config.metadata.name },
        'SELinux options mean nothing in a virtual machine and are left aside',
      );
    }
    return { container_id: await containers.create(sandboxId, config, signal, caller) };
  };
}
