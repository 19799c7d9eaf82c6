import { describe, expect, test } from '@jest/globals';
import { describeNamespace } from './read-interfaces.ts';

const own = { scope: 0, permanent: true, secondary: false };
const links = [
  { name: 'lo', mtu: 65536, mac: '00:00:00:00:00:00', addresses: [{ ...own, ip: '127.0.0.1', prefixLength: 8 }] },
  { name: 'tap0', mtu: 1500, mac: '02:00:00:00:00:99', addresses: [] },
  { name: 'tunl0', mtu: 1480, mac: '', addresses: [] },
  {
    name: 'eth0',
    mtu: 1400,
    mac: '02:00:00:00:00:01',
    addresses: [
      { ...own, ip: '10.1.0.2', prefixLength: 24 },
      { ...own, ip: '10.1.0.3', prefixLength: 24, secondary: true },
      { ...own, ip: 'fd00::2', prefixLength: 64 },
      { ...own, ip: 'fd00::9999', prefixLength: 64, secondary: true },
      { ...own, ip: '2001:db8::abcd', prefixLength: 64, permanent: false },
      { ...own, ip: 'fe80::1', prefixLength: 64, scope: 253 },
    ],
  },
];

/** Kinds, protocols and scopes as the kernel numbers them: unicast, boot, global unless another is given. */
function route(to: string, change: { gateway?: string; dev?: string; onlink?: boolean } & Record<string, unknown>) {
  const { gateway = null, dev = 'eth0', onlink = false, ...more } = change;
  const [destination, prefixLength] = to.split('/');
  return {
    ...{ destination, prefixLength: Number(prefixLength), kind: 1, protocol: 3, scope: 0, source: null },
    ...{ metric: 0, mtu: 0, hops: [{ gateway, interface: dev, onlink }] },
    ...more,
  };
}

const twoWays = [
  { gateway: '10.1.0.1', interface: 'eth0', onlink: false },
  { gateway: '10.1.0.3', interface: 'eth0', onlink: false },
];
const routes = [
  route('0.0.0.0/0', { gateway: '10.1.0.1' }),
  route('10.3.0.0/16', { gateway: '10.1.0.1', metric: 5, mtu: 1300 }),
  route('10.4.0.0/16', { gateway: '10.88.0.1', onlink: true }),
  route('10.77.0.0/16', { kind: 6, hops: [] }),
  route('10.78.0.0/16', { hops: twoWays }),
  route('10.1.0.0/24', { protocol: 2, scope: 253, source: '10.1.0.2' }),
  route('169.254.1.1/32', { scope: 253 }),
  route('10.9.0.0/16', { dev: 'tunl0' }),
  route('fd00:77::/64', { kind: 7, dev: 'lo', metric: 1024 }),
  route('::/0', { gateway: 'fe80::ff', protocol: 9, metric: 1024 }),
  route('::/0', { gateway: 'fd00::1', metric: 1024 }),
  route('fd00::/64', { protocol: 2, metric: 256 }),
  route('fe80::/64', { protocol: 2, metric: 256 }),
  route('fd00:5::1/128', { metric: 1024 }),
];
const neighbours = [
  { ip: '169.254.1.1', mac: '02:00:00:00:00:ff', interface: 'eth0' },
  { ip: '10.9.0.1', mac: '02:00:00:00:00:fe', interface: 'tunl0' },
];

describe('the network of a namespace', () => {
  const network = describeNamespace({ links, routes, neighbours });

  test('is its interfaces with addresses, without what a stack finds by itself', () => {
    expect(network.interfaces).toEqual([
      { name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1400, addresses: ['10.1.0.2/24', '10.1.0.3/24', 'fd00::2/64'] },
    ]);
  });

  test('has routes in an order that can be applied', () => {
    const shown = network.routes.map((route) => `${route.destination} via ${route.gateway || 'link'}`);
    expect(shown).toEqual([
      '10.1.0.0/24 via link',
      '169.254.1.1/32 via link',
      'fd00::/64 via link',
      'fd00:5::1/128 via link',
      '0.0.0.0/0 via 10.1.0.1',
      '10.3.0.0/16 via 10.1.0.1',
      '10.4.0.0/16 via 10.88.0.1',
      '10.78.0.0/16 via 10.1.0.1',
      '::/0 via fd00::1',
    ]);
  });

  test('keeps what matters of a route', () => {
    const found = (destination: string): unknown => network.routes.find((each) => each.destination === destination);
    const plain = { interface: 'eth0', source: '', scope: 0, metric: 0, onlink: false, mtu: 0 };
    expect(found('10.1.0.0/24')).toEqual({
      ...plain,
      destination: '10.1.0.0/24',
      gateway: '',
      source: '10.1.0.2',
      scope: 253,
    });
    expect(found('10.3.0.0/16')).toEqual({
      ...plain,
      destination: '10.3.0.0/16',
      gateway: '10.1.0.1',
      metric: 5,
      mtu: 1300,
    });
    expect(found('10.4.0.0/16')).toEqual({ ...plain, destination: '10.4.0.0/16', gateway: '10.88.0.1', onlink: true });
    expect(found('fd00::/64')).toEqual({ ...plain, destination: 'fd00::/64', gateway: '', metric: 256 });
  });

  test('has the permanent neighbours of those interfaces', () => {
    expect(network.neighbours).toEqual([{ address: '169.254.1.1', mac: '02:00:00:00:00:ff', interface: 'eth0' }]);
  });

  test('may be empty', () => {
    expect(describeNamespace({ links: [], routes: [], neighbours: [] })).toEqual({
      interfaces: [],
      routes: [],
      neighbours: [],
    });
  });
});
