import { z } from 'zod';
import { TAP_NAME } from './network-namespaces.ts';

export interface NamespaceInterface {
  readonly name: string;
  readonly mac: string;
  readonly mtu: number;
  /** CIDR form, in the order the kernel lists them. */
  readonly addresses: readonly string[];
}

export interface NamespaceRoute {
  readonly destination: string;
  /** Empty: on link. */
  readonly gateway: string;
  readonly interface: string;
  readonly source: string;
  readonly scope: number;
  readonly metric: number;
  readonly onlink: boolean;
  readonly mtu: number;
}

export interface NamespaceNeighbour {
  readonly address: string;
  readonly mac: string;
  readonly interface: string;
}

export interface NamespaceNetwork {
  readonly interfaces: readonly NamespaceInterface[];
  /** On-link routes before those through a gateway, which the kernel refuses while it cannot reach the gateway. */
  readonly routes: readonly NamespaceRoute[];
  readonly neighbours: readonly NamespaceNeighbour[];
}

// From linux/rtnetlink.h.
const RTN_UNICAST = 1;
const RTPROT_KERNEL = 2;
const RTPROT_RA = 9;
const RT_SCOPE_LINK = 253;

// What kelyfos-networker finds (networker/src/network.rs).
const addressSchema = z.object({
  ip: z.string(),
  prefixLength: z.number(),
  scope: z.number(),
  /** Without a lifetime. */
  permanent: z.boolean(),
  /** Of IPv6: made up for privacy. */
  secondary: z.boolean(),
});
const linkSchema = z.object({
  name: z.string(),
  mac: z.string(),
  mtu: z.number(),
  addresses: z.array(addressSchema),
});
const routeSchema = z.object({
  destination: z.string(),
  prefixLength: z.number(),
  kind: z.number(),
  protocol: z.number(),
  scope: z.number(),
  source: z.string().nullable(),
  metric: z.number(),
  mtu: z.number(),
  hops: z.array(z.object({ gateway: z.string().nullable(), interface: z.string(), onlink: z.boolean() })),
});
const namespaceSchema = z.object({
  links: z.array(linkSchema),
  routes: z.array(routeSchema),
  neighbours: z.array(z.object({ ip: z.string(), mac: z.string(), interface: z.string() })),
});

/**
 * What the plugins of a chain left in the namespace, whatever their results say: interfaces with
 * addresses, main routing tables, permanent neighbours. Left out is what a stack finds by itself, the
 * guest's as well as this one: IPv6 link-local addresses, and what router advertisements brought.
 */
export function describeNamespace(found: unknown): NamespaceNetwork {
  const { links, routes: allRoutes, neighbours } = namespaceSchema.parse(found);
  const interfaces = links.flatMap(toInterface);
  const names = new Set(interfaces.map((each) => each.name));
  const routes = allRoutes.flatMap(toRoute).filter((route) => names.has(route.interface));
  return {
    interfaces,
    routes: [...routes.filter((route) => route.gateway === ''), ...routes.filter((route) => route.gateway !== '')],
    neighbours: neighbours
      .filter((each) => names.has(each.interface))
      .map(({ ip, mac, interface: name }) => ({ address: ip, mac, interface: name })),
  };
}

function isIpv6(address: string): boolean {
  return address.includes(':');
}

function toInterface({ name, mac, mtu, addresses: all }: z.infer<typeof linkSchema>): NamespaceInterface[] {
  if (name === 'lo' || name === TAP_NAME) return [];
  const addresses = all
    .filter(({ ip, permanent, secondary, scope }) => {
      const ownByStack = isIpv6(ip) && (secondary || scope === RT_SCOPE_LINK);
      return permanent && !ownByStack;
    })
    .map(({ ip, prefixLength }) => `${ip}/${String(prefixLength)}`);
  return addresses.length === 0 ? [] : [{ name, mac, mtu, addresses }];
}

function toRoute(route: z.infer<typeof routeSchema>): NamespaceRoute[] {
  const { destination, prefixLength, kind, protocol, source, scope, metric, mtu } = route;
  // Blackhole and the like have no interface; a guest has no use for them.
  if (kind !== RTN_UNICAST || protocol === RTPROT_RA) return [];
  // The agent knows no multipath routes: the first hop is one that works.
  const [hop] = route.hops;
  if (hop === undefined || (destination.startsWith('fe80:') && protocol === RTPROT_KERNEL)) return [];
  return [
    {
      destination: `${destination}/${String(prefixLength)}`,
      gateway: hop.gateway ?? '',
      interface: hop.interface,
      source: source ?? '',
      scope,
      metric,
      onlink: hop.onlink,
      mtu,
    },
  ];
}
