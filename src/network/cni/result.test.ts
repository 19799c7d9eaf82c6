import { describe, expect, test } from '@jest/globals';
import { addressesOf, parseResult, resultAs } from './result.ts';
import type { CniVersion } from './version.ts';

const legacy = {
  cniVersion: '0.2.0',
  ip4: { ip: '10.1.0.2/24', gateway: '10.1.0.1', routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }] },
  ip6: { ip: 'fd00::2/64', routes: [{ dst: '::/0' }] },
  dns: { nameservers: ['10.1.0.1'] },
};
const middle = {
  cniVersion: '0.4.0',
  interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', sandbox: '/run/netns/x' }],
  ips: [
    { version: '6', address: 'fd00::2/64', interface: 0 },
    { version: '4', address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 0 },
  ],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0', gw: 'fd00::1' }],
  dns: {},
};

describe('CNI results', () => {
  test('keep the order of addresses', () => {
    expect(addressesOf(parseResult(middle, '0.4.0'))).toEqual(['fd00::2/64', '10.1.0.2/24']);
    expect(addressesOf(parseResult(legacy, '0.2.0'))).toEqual(['10.1.0.2/24', 'fd00::2/64']);
    expect(addressesOf(parseResult({}, '1.0.0'))).toEqual([]);
  });

  test('pass unchanged where the version is the same, with keys unknown here', () => {
    const result = { ...middle, cniVersion: '1.1.0', vendor: { key: 1 } };
    expect(resultAs(parseResult(result, '0.3.1'), '1.1.0')).toEqual(result);
  });

  test('become lists when they come from before 0.3.0', () => {
    expect(resultAs(parseResult(legacy, '1.0.0'), '1.0.0')).toEqual({
      cniVersion: '1.0.0',
      ips: [{ address: '10.1.0.2/24', gateway: '10.1.0.1' }, { address: 'fd00::2/64' }],
      routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }, { dst: '::/0' }],
      dns: { nameservers: ['10.1.0.1'] },
    });
  });

  test('lose and gain the family of an address at 1.0.0', () => {
    const newer = resultAs(parseResult(middle, '0.4.0'), '1.1.0');
    expect(newer['ips']).toEqual([
      { address: 'fd00::2/64', interface: 0 },
      { address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 0 },
    ]);
    expect(resultAs(parseResult(newer, '1.1.0'), '0.4.0')).toEqual(middle);
  });

  test('give old plugins one address of each family', () => {
    expect(resultAs(parseResult(middle, '0.4.0'), '0.1.0')).toEqual({
      cniVersion: '0.1.0',
      ip4: { ip: '10.1.0.2/24', gateway: '10.1.0.1', routes: [{ dst: '0.0.0.0/0' }] },
      ip6: { ip: 'fd00::2/64', routes: [{ dst: '::/0', gw: 'fd00::1' }] },
      dns: {},
    });
  });

  test.each<[unknown, CniVersion, string]>([
    ['text', '1.0.0', 'the CNI result is not a JSON object'],
    [undefined, '1.0.0', 'the CNI result is not a JSON object'],
    [{ cniVersion: '9.0.0' }, '1.0.0', 'CNI result of unknown version 9.0.0'],
    [{ ips: [{ addr: 'x' }] }, '1.0.0', 'malformed CNI result: ips.0.address'],
    [{ ip4: { address: 'x' } }, '0.1.0', 'malformed CNI result: ip4.ip'],
  ])('that are none are refused: %j', (json, version, message) => {
    expect(() => parseResult(json, version)).toThrow(message);
  });
});
