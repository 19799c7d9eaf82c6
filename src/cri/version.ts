import type { UnaryHandler } from './call.ts';
import type { VersionRequest, VersionResponse } from './gen/cri-types.ts';
import type { CriServices } from './services.ts';

/** The kubelet accepts no other version of its interface, whatever the client has asked for. */
const kubeletApiVersion = '0.1.0';

export function version({ runtime }: CriServices): UnaryHandler<VersionRequest, VersionResponse> {
  return async () => ({
    version: kubeletApiVersion,
    runtime_name: 'kelyfos',
    runtime_version: runtime.version,
    runtime_api_version: 'v1',
  });
}
