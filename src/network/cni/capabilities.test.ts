import { describe, expect, test } from '@jest/globals';
import { capabilityArguments, runtimeConfig } from './capabilities.ts';

const nothing = { portMappings: [], dns: { servers: [], searches: [], options: [] }, cgroupParent: '' };

describe('capabilities', () => {
  test('carry what the pod asks for', () => {
    const request = {
      portMappings: [
        { protocol: 'udp', containerPort: 53, hostPort: 5353, hostIp: '192.0.2.1' },
        { protocol: 'tcp', containerPort: 80, hostPort: 0, hostIp: '' },
      ],
      dns: { servers: ['10.0.0.10'], searches: ['svc'], options: ['ndots:5'] },
      bandwidth: { egressRate: 1_000_000 },
      cgroupParent: '/kubepods/pod1',
    };
    expect(capabilityArguments(request, ['10.1.0.0/24', 'fd00::/64'])).toEqual({
      portMappings: [{ protocol: 'udp', containerPort: 53, hostPort: 5353, hostIP: '192.0.2.1' }],
      dns: { servers: ['10.0.0.10'], searches: ['svc'], options: ['ndots:5'] },
      bandwidth: { egressRate: 1_000_000, egressBurst: 2_147_483_647 },
      ipRanges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00::/64' }]],
      cgroupPath: '/kubepods/pod1',
    });
  });

  test('are left out when empty', () => {
    expect(capabilityArguments(nothing, [])).toEqual({});
  });

  test('go only to the plugin that declares them', () => {
    const args = { portMappings: [1], dns: { servers: [] } };
    expect(runtimeConfig({ type: 'portmap', capabilities: { portMappings: true, dns: false } }, args)).toEqual({
      portMappings: [1],
    });
    expect(runtimeConfig({ type: 'bridge' }, args)).toBeUndefined();
  });
});
