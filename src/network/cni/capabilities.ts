import type { PluginConfiguration } from './config-schema.ts';

/** What a pod asks of its network, as far as plugins can be told. */
export interface CapabilityRequest {
  readonly portMappings: readonly {
    readonly protocol: string;
    readonly containerPort: number;
    readonly hostPort: number;
    readonly hostIp: string;
  }[];
  readonly dns: {
    readonly servers: readonly string[];
    readonly searches: readonly string[];
    readonly options: readonly string[];
  };
  /** Bits per second. */
  readonly bandwidth?: { readonly ingressRate?: number; readonly egressRate?: number };
  readonly cgroupParent: string;
}

/** Arguments by capability name, as in https://www.cni.dev/docs/conventions/. */
export type CapabilityArguments = Readonly<Record<string, unknown>>;

/** The bucket, in bits, of a rate limit: the annotations that ask for one name none. */
const BURST_BITS = 2 ** 31 - 1;

export function capabilityArguments(request: CapabilityRequest, podCidrs: readonly string[]): CapabilityArguments {
  // Port 0 on the host: nothing to map. Kubernetes lists every port of a container.
  const portMappings = request.portMappings
    .filter((each) => each.hostPort > 0)
    .map(({ hostPort, containerPort, protocol, hostIp }) => ({ hostPort, containerPort, protocol, hostIP: hostIp }));
  const { servers, searches, options } = request.dns;
  const { ingressRate, egressRate } = request.bandwidth ?? {};
  const bandwidth = {
    ...(ingressRate === undefined ? {} : { ingressRate, ingressBurst: BURST_BITS }),
    ...(egressRate === undefined ? {} : { egressRate, egressBurst: BURST_BITS }),
  };
  return {
    ...(portMappings.length === 0 ? {} : { portMappings }),
    ...(servers.length + searches.length + options.length === 0 ? {} : { dns: { servers, searches, options } }),
    ...(Object.keys(bandwidth).length === 0 ? {} : { bandwidth }),
    ...(podCidrs.length === 0 ? {} : { ipRanges: podCidrs.map((subnet) => [{ subnet }]) }),
    ...(request.cgroupParent === '' ? {} : { cgroupPath: request.cgroupParent }),
  };
}

/** The arguments that a plugin has asked for in its configuration. */
export function runtimeConfig(
  plugin: PluginConfiguration,
  args: CapabilityArguments,
): Record<string, unknown> | undefined {
  const wanted = Object.entries(args).filter(([name]) => plugin.capabilities?.[name] === true);
  return wanted.length === 0 ? undefined : Object.fromEntries(wanted);
}
