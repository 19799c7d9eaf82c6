import type { Sandbox, SandboxState } from '../podsandbox/model.ts';
import type { RequestTrace } from '../podsandbox/trace-model.ts';
import type { Outgoing } from './call.ts';
import type * as cri from './gen/cri-types.ts';
import { shapeNamespaces } from './parse-namespaces.ts';

const states: Readonly<Record<SandboxState, cri.PodSandboxState>> = {
  ready: 'SANDBOX_READY',
  notready: 'SANDBOX_NOTREADY',
};

export function sandboxStateOf(state: cri.PodSandboxState): SandboxState {
  return state === 'SANDBOX_READY' ? 'ready' : 'notready';
}

export function shapeSandbox(sandbox: Sandbox): Outgoing<cri.PodSandbox> {
  const { config } = sandbox;
  return {
    id: sandbox.id,
    metadata: config.metadata,
    state: states[sandbox.state],
    created_at: String(sandbox.createdAt),
    labels: config.labels,
    annotations: config.annotations,
    runtime_handler: sandbox.runtimeHandler,
  };
}

export function shapeSandboxStatus(sandbox: Sandbox): Outgoing<cri.PodSandboxStatus> {
  const [ip = '', ...more] = sandbox.ips;
  return {
    ...shapeSandbox(sandbox),
    network: { ip, additional_ips: more.map((address) => ({ ip: address })) },
    linux: { namespaces: { options: shapeNamespaces(sandbox.config.namespaces) } },
  };
}

/** For people: what crictl inspectp shows besides the status. */
export function sandboxInfo(sandbox: Sandbox, traces: readonly RequestTrace[]): Readonly<Record<string, unknown>> {
  return {
    pid: sandbox.pid,
    runtimeHandler: sandbox.runtimeHandler,
    runtimeType: 'kelyfos',
    reason: sandbox.reason,
    vm: {
      id: sandbox.vmId,
      origin: sandbox.vmOrigin,
      machineId: sandbox.machineId,
      networkNamespace: sandbox.netns,
    },
    startup: traces,
    config: sandbox.config,
  };
}
