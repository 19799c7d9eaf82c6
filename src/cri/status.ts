import type { UnaryHandler } from './call.ts';
import type { StatusRequest, StatusResponse } from './gen/cri-types.ts';
import type { CriServices } from './services.ts';
import { verboseInfo } from './verbose-info.ts';

const runtimeFeatures = { supplemental_groups_policy: true, user_namespaces_host_network: false, mount_options: false };

export function status({ runtime, networks }: CriServices): UnaryHandler<StatusRequest, StatusResponse> {
  // The same for every handler; the kubelet refuses pods that ask for more.
  const features = { recursive_read_only_mounts: true, user_namespaces: runtime.mapsOwners };
  const names = ['', ...runtime.handlers.toSorted()];
  return async ({ verbose }) => {
    const network = networks.state();
    return {
      status: {
        conditions: [
          // The socket is served only once recovery is done: who gets this answer has a runtime that works.
          { type: 'RuntimeReady', status: true, reason: '', message: '' },
          { type: 'NetworkReady', status: network.ready, reason: network.reason, message: network.message },
        ],
      },
      // The empty name is the default handler, which comes under its own name as well.
      runtime_handlers: names.map((name) => ({ name, features })),
      features: runtimeFeatures,
      info: verbose
        ? verboseInfo({
            cniconfig: network.configuration,
            lastCNILoadStatus: network.ready ? 'OK' : network.message,
            ...(await runtime.details()),
          })
        : {},
    };
  };
}
