import type { UnaryHandler } from './call.ts';
import type { RunPodSandboxRequest, RunPodSandboxResponse } from './gen/cri-types.ts';
import { parseHandler, parseSandboxConfig } from './parse-sandbox-config.ts';
import type { CriServices } from './services.ts';

export function runPodSandbox({
  sandboxes,
  runtime,
}: CriServices): UnaryHandler<RunPodSandboxRequest, RunPodSandboxResponse> {
  return async (request, { signal, log, caller }) => {
    const config = parseSandboxConfig(request.config);
    const handler = parseHandler(request.runtime_handler, runtime.handlers);
    if ((request.config?.linux?.security_context?.selinux_options ?? null) !== null) {
      log.warn({ pod: config.metadata.name }, 'SELinux options mean nothing in a virtual machine and are left aside');
    }
    return { pod_sandbox_id: await sandboxes.run(config, handler, signal, caller) };
  };
}
