import { describe, expect, test } from '@jest/globals';
import { describeNamespace } from './read-interfaces.ts';

/** As `ip -json` of iproute2 6.1 prints it, shortened. */
const links = JSON.stringify([
  {
    ifname: 'lo',
    mtu: 65536,
    address: '00:00:00:00:00:00',
    addr_info: [{ family: 'inet', local: '127.0.0.1', prefixlen: 8, scope: 'host' }],
  },
  { ifname: 'tap0', mtu: 1500, address: '02:00:00:00:00:99', addr_info: [] },
  { ifname: 'tunl0', mtu: 1480, addr_info: [] },
  {
    ifname: 'eth0',
    mtu: 1400,
    address: '02:00:00:00:00:01',
    addr_info: [
      { family: 'inet', local: '10.1.0.2', prefixlen: 24, scope: 'global', label: 'eth0' },
      { family: 'inet6', local: 'fd00::2', prefixlen: 64, scope: 'global' },
      { family: 'inet6', local: '2001:db8::abcd', prefixlen: 64, scope: 'global', dynamic: true, mngtmpaddr: true },
      { family: 'inet6', local: 'fe80::1', prefixlen: 64, scope: 'link' },
    ],
  },
]);
const routes4 = JSON.stringify([
  { dst: 'default', gateway: '10.1.0.1', dev: 'eth0', flags: [] },
  { dst: '10.3.0.0/16', gateway: '10.1.0.1', dev: 'eth0', metric: 5, flags: [], metrics: [{ mtu: 1300 }] },
  { dst: '10.4.0.0/16', gateway: '10.88.0.1', dev: 'eth0', flags: ['onlink'] },
  { type: 'blackhole', dst: '10.77.0.0/16', flags: [] },
  {
    dst: '10.78.0.0/16',
    flags: [],
    nexthops: [
      { gateway: '10.1.0.1', dev: 'eth0', weight: 1, flags: [] },
      { gateway: '10.1.0.3', dev: 'eth0', weight: 1, flags: [] },
    ],
  },
  { dst: '10.1.0.0/24', dev: 'eth0', protocol: 'kernel', scope: 'link', prefsrc: '10.1.0.2', flags: [] },
  { dst: '169.254.1.1', dev: 'eth0', scope: 'link', flags: [] },
  { dst: '10.9.0.0/16', dev: 'tunl0', flags: [] },
]);
const routes6 = JSON.stringify([
  { type: 'unreachable', dst: 'fd00:77::/64', dev: 'lo', metric: 1024, flags: [] },
  { dst: 'default', gateway: 'fe80::ff', dev: 'eth0', protocol: 'ra', metric: 1024, flags: [] },
  { dst: 'default', gateway: 'fd00::1', dev: 'eth0', metric: 1024, flags: [] },
  { dst: 'fd00::/64', dev: 'eth0', protocol: 'kernel', metric: 256, flags: [] },
  { dst: 'fe80::/64', dev: 'eth0', protocol: 'kernel', metric: 256, flags: [] },
  { dst: 'fd00:5::1', dev: 'eth0', metric: 1024, flags: [] },
]);
const neighbours = JSON.stringify([
  { dst: '169.254.1.1', dev: 'eth0', lladdr: '02:00:00:00:00:ff', state: ['PERMANENT'] },
  { dst: '10.9.0.1', dev: 'tunl0', lladdr: '02:00:00:00:00:fe', state: ['PERMANENT'] },
]);

describe('the network of a namespace', () => {
  const network = describeNamespace({ links, routes4, routes6, neighbours });

  test('is its interfaces with addresses, without what a stack finds by itself', () => {
    expect(network.interfaces).toEqual([
      { name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1400, addresses: ['10.1.0.2/24', 'fd00::2/64'] },
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
    const route = (destination: string): unknown => network.routes.find((each) => each.destination === destination);
    const plain = { interface: 'eth0', source: '', scope: 0, metric: 0, onlink: false, mtu: 0 };
    expect(route('10.1.0.0/24')).toEqual({
      ...plain,
      destination: '10.1.0.0/24',
      gateway: '',
      source: '10.1.0.2',
      scope: 253,
    });
    expect(route('10.3.0.0/16')).toEqual({
      ...plain,
      destination: '10.3.0.0/16',
      gateway: '10.1.0.1',
      metric: 5,
      mtu: 1300,
    });
    expect(route('10.4.0.0/16')).toEqual({ ...plain, destination: '10.4.0.0/16', gateway: '10.88.0.1', onlink: true });
    expect(route('fd00::/64')).toEqual({ ...plain, destination: 'fd00::/64', gateway: '', metric: 256 });
  });

  test('has the permanent neighbours of those interfaces', () => {
    expect(network.neighbours).toEqual([{ address: '169.254.1.1', mac: '02:00:00:00:00:ff', interface: 'eth0' }]);
  });

  test('may be empty', () => {
    expect(describeNamespace({ links: '', routes4: '', routes6: '', neighbours: '' })).toEqual({
      interfaces: [],
      routes: [],
      neighbours: [],
    });
  });
});
