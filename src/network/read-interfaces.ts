import { z } from 'zod';
import { wrap } from '../platform/errors.ts';
import { runBatch, runHostTool } from './host-tool.ts';
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

// What `ip -json` prints, as far as it is used here.
const addressSchema = z.looseObject({
  family: z.string(),
  local: z.string().optional(),
  prefixlen: z.number(),
  scope: z.string(),
  dynamic: z.boolean().optional(),
  temporary: z.boolean().optional(),
});
const linkSchema = z.looseObject({
  ifname: z.string(),
  address: z.string().optional(),
  mtu: z.number(),
  addr_info: z.array(addressSchema),
});
const hopSchema = z.looseObject({
  gateway: z.string().optional(),
  via: z.looseObject({ host: z.string() }).optional(),
  dev: z.string().optional(),
  flags: z.array(z.string()).optional(),
});
const routeSchema = hopSchema.extend({
  type: z.string().optional(),
  dst: z.string(),
  protocol: z.string().optional(),
  scope: z.string().optional(),
  prefsrc: z.string().optional(),
  metric: z.number().optional(),
  metrics: z.array(z.looseObject({ mtu: z.number().optional() })).optional(),
  nexthops: z.array(hopSchema).optional(),
});
const neighbourSchema = z.looseObject({ dst: z.string(), dev: z.string(), lladdr: z.string().optional() });

type Route = z.infer<typeof routeSchema>;

/**
 * What the plugins of a chain left in the namespace, whatever their results say: interfaces with
 * addresses, main routing tables, permanent neighbours. Left out is what a stack finds by itself, the
 * guest's as well as this one: IPv6 link-local addresses, and what router advertisements brought.
 *
 * `expected`: addresses that are likely to be there, which only saves time.
 */
export async function readNamespace(netns: string, expected: readonly string[]): Promise<NamespaceNetwork> {
  // One process answers one family of routes; each line of the batch prints one JSON document.
  const batch = runBatch('ip', ['address show', 'route show table main', 'neighbour show nud permanent'], netns);
  const ofIpv6 = (): Promise<string> => runHostTool(['ip', '-json', '-6', 'route', 'show', 'table', 'main'], { netns });
  const [text, early] = await Promise.all([batch, expected.some(isIpv6) ? ofIpv6() : undefined]);
  const [links = '[]', routes4 = '[]', neighbours = '[]'] = text.split('\n');
  try {
    const network = describeNamespace({ links, routes4, routes6: early ?? '[]', neighbours });
    // Without an address of its family no interface has a use for a route.
    if (early !== undefined || !network.interfaces.some(({ addresses }) => addresses.some(isIpv6))) return network;
    return describeNamespace({ links, routes4, routes6: await ofIpv6(), neighbours });
  } catch (error) {
    throw wrap(error, `read the interfaces in ${netns}`);
  }
}

function isIpv6(address: string): boolean {
  return address.includes(':');
}

/** The four JSON documents of `ip`, made into what a guest is given. */
export function describeNamespace(texts: {
  readonly links: string;
  readonly routes4: string;
  readonly routes6: string;
  readonly neighbours: string;
}): NamespaceNetwork {
  const interfaces = z.array(linkSchema).parse(parseJson(texts.links)).flatMap(toInterface);
  const names = new Set(interfaces.map((each) => each.name));
  const routes = [
    ...z
      .array(routeSchema)
      .parse(parseJson(texts.routes4))
      .flatMap((route) => toRoute(route, '0.0.0.0/0', '/32')),
    ...z
      .array(routeSchema)
      .parse(parseJson(texts.routes6))
      .flatMap((route) => toRoute(route, '::/0', '/128')),
  ].filter((route) => names.has(route.interface));
  return {
    interfaces,
    routes: [...routes.filter((route) => route.gateway === ''), ...routes.filter((route) => route.gateway !== '')],
    neighbours: z
      .array(neighbourSchema)
      .parse(parseJson(texts.neighbours))
      .flatMap(({ dst, dev, lladdr }) =>
        lladdr !== undefined && names.has(dev) ? [{ address: dst, mac: lladdr, interface: dev }] : [],
      ),
  };
}

/** An empty list is printed as nothing by some versions. */
function parseJson(text: string): unknown {
  return text.trim() === '' ? [] : (JSON.parse(text) as unknown);
}

function toInterface(link: z.infer<typeof linkSchema>): NamespaceInterface[] {
  if (link.ifname === 'lo' || link.ifname === TAP_NAME) return [];
  const addresses = link.addr_info.flatMap((each) => {
    const ownByStack =
      each.dynamic === true || each.temporary === true || (each.family === 'inet6' && each.scope === 'link');
    return each.local === undefined || ownByStack ? [] : [`${each.local}/${String(each.prefixlen)}`];
  });
  return addresses.length === 0 ? [] : [{ name: link.ifname, mac: link.address ?? '', mtu: link.mtu, addresses }];
}

function toRoute(route: Route, everything: string, hostSuffix: string): NamespaceRoute[] {
  // Blackhole and the like have no interface; a guest has no use for them.
  if ((route.type ?? 'unicast') !== 'unicast' || route.protocol === 'ra') return [];
  // The agent knows no multipath routes: the first hop is one that works.
  const hop = route.nexthops?.[0] ?? route;
  if (hop.dev === undefined || (route.dst.startsWith('fe80:') && route.protocol === 'kernel')) return [];
  return [
    {
      destination:
        route.dst === 'default' ? everything : route.dst.includes('/') ? route.dst : `${route.dst}${hostSuffix}`,
      gateway: hop.gateway ?? hop.via?.host ?? '',
      interface: hop.dev,
      source: route.prefsrc ?? '',
      scope: scopeNumber(route.scope),
      metric: route.metric ?? 0,
      onlink: hop.flags?.includes('onlink') ?? false,
      mtu: route.metrics?.find((each) => each.mtu !== undefined)?.mtu ?? 0,
    },
  ];
}

/** Names as in rt_scopes of iproute2; others are printed as numbers. */
function scopeNumber(scope: string | undefined): number {
  const known: Record<string, number> = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 };
  return scope === undefined ? 0 : (known[scope] ?? Number(scope));
}
