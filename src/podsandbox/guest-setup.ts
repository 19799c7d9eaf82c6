import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ConfigureSandboxRequestSchema } from '../agent/gen/agent/v1/agent_pb.js';
import type { SandboxConfig } from './model.ts';
import type { PodNetwork } from './ports.ts';

export interface GuestSetupInput {
  readonly config: SandboxConfig;
  readonly network: PodNetwork;
  readonly shareTag: string;
  /** 32 hex digits. */
  readonly machineId: string;
  readonly entropy: Uint8Array;
}

/** What makes an anonymous VM this pod: one call, right before anything of the pod runs. */
export function guestSetup(input: GuestSetupInput): MessageInitShape<typeof ConfigureSandboxRequestSchema> {
  const { config, network, shareTag, machineId, entropy } = input;
  const { users } = config.namespaces;
  return {
    clockNs: BigInt(Date.now()) * 1_000_000n,
    entropy,
    machineId,
    hostname: guestHostname(config),
    ...(config.dns === undefined
      ? {}
      : {
          dns: {
            servers: [...config.dns.servers],
            searches: [...config.dns.searches],
            options: [...config.dns.options],
          },
        }),
    interfaces: network.interfaces.map((nic, index) => ({ ...nic, addresses: [...nic.addresses], nic: index })),
    routes: network.routes.map((route) => ({ ...route })),
    neighbours: network.neighbours.map((neighbour) => ({ ...neighbour })),
    sysctls: { ...config.sysctls },
    shareTag,
    ...(typeof users === 'object' ? { userNamespace: { uids: [...users.uids], gids: [...users.gids] } } : {}),
  };
}

/** The kubelet sends one; crictl users often do not, and then get the pod's name. Linux takes 64 bytes. */
export function guestHostname(config: SandboxConfig): string {
  return (config.hostname !== '' ? config.hostname : config.metadata.name).slice(0, 64);
}
