import { messageOf } from '../../platform/errors.ts';
import type { UnaryHandler } from '../call.ts';
import type * as cri from '../gen/cri-types.ts';
import { verboseInfo } from '../verbose-info.ts';
import type { HostRuntime } from './host-runtime.ts';

type Status = UnaryHandler<cri.StatusRequest, cri.StatusResponse>;
type Update = UnaryHandler<cri.UpdateRuntimeConfigRequest, cri.UpdateRuntimeConfigResponse>;

const noFeatures = { recursive_read_only_mounts: false, user_namespaces: false };

/**
 * Ours, and a condition of its own for the host runtime: the node stays ready without it, for pods in
 * virtual machines need nothing of it. Its handlers have the features it says they have.
 */
export function status(own: Status, host: HostRuntime): Status {
  return async (request, call) => {
    const [ours, state] = await Promise.all([own(request, call), host.state()]);
    const theirs = state.up ? await host.status(request.verbose) : undefined;
    const featuresOf = (name: string): cri.RuntimeHandlerFeatures =>
      theirs?.runtime_handlers.find((handler) => handler.name === name)?.features ?? noFeatures;
    const condition = {
      type: 'HostRuntimeReady',
      status: state.up,
      reason: state.up ? '' : 'HostRuntimeUnavailable',
      message: state.up ? '' : `the host runtime at ${host.endpoint} is not there: ${state.message}`,
    };
    return {
      ...ours,
      status: { conditions: [...(ours.status?.conditions ?? []), condition] },
      runtime_handlers: [
        ...(ours.runtime_handlers ?? []),
        ...[...host.handlers].map(([name, hostName]) => ({ name, features: featuresOf(hostName) })),
      ],
      info: {
        ...ours.info,
        ...(request.verbose
          ? verboseInfo({ hostRuntime: { endpoint: host.endpoint, ...state, status: theirs?.status ?? null } })
          : {}),
      },
    };
  };
}

/** To both. The kubelet says it seldom: the host runtime gets it again when it comes back. */
export function updateRuntimeConfig(own: Update, host: HostRuntime): Update {
  return async (request, call) => {
    const response = await own(request, call);
    await host.configure(request).catch((error: unknown) => {
      call.log.warn({ error: messageOf(error) }, 'the host runtime did not take the pod network');
    });
    return response;
  };
}
