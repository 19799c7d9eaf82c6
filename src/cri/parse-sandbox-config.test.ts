import { describe, expect, test } from '@jest/globals';
import { AppError } from '../platform/errors.ts';
import { sandboxConfig } from './fake-request.ts';
import { parseHandler, parseSandboxConfig } from './parse-sandbox-config.ts';

const metadata = { name: 'web', uid: 'u-1', namespace: 'default', attempt: 2 };

function parse(config: object | null): unknown {
  return parseSandboxConfig(sandboxConfig(config));
}

function refusal(config: object | null): string {
  try {
    parse(config);
  } catch (error) {
    if (error instanceof AppError) return `${error.kind}: ${error.message}`;
    throw error;
  }
  return 'accepted';
}

const withNamespaces = (options: object): object => ({
  metadata,
  linux: { security_context: { namespace_options: options } },
});

describe('a pod sandbox', () => {
  test('with nothing but a name has defaults', () => {
    expect(parse({ metadata })).toEqual({
      metadata,
      hostname: '',
      logDirectory: '',
      dns: undefined,
      portMappings: [],
      labels: {},
      annotations: {},
      cgroupParent: '',
      sysctls: {},
      privileged: false,
      namespaces: { network: 'pod', pid: 'pod', ipc: 'pod', targetId: '' },
      resources: undefined,
      overhead: undefined,
    });
  });

  test('as the kubelet sends it', () => {
    expect(
      parse({
        metadata,
        hostname: 'web-0',
        log_directory: '/var/log/pods/default_web_u-1',
        dns_config: {
          servers: ['10.0.0.10', 'fe80::1%eth0'],
          searches: ['svc.cluster.local', '.'],
          options: ['ndots:5'],
        },
        port_mappings: [
          { container_port: 80 },
          { protocol: 'UDP', container_port: 53, host_port: 5353, host_ip: '::1' },
        ],
        labels: { 'io.kubernetes.pod.uid': 'u-1' },
        annotations: { note: 'a\nb' },
        linux: {
          cgroup_parent: '/kubepods/burstable/podu-1',
          sysctls: { 'net.ipv4.ip_local_port_range': '1024 65535', 'net/ipv4/conf/eth0.1/forwarding': '1' },
          resources: { cpu_quota: 50000, cpu_period: 100000, cpu_shares: 512, memory_limit_in_bytes: '268435456' },
          overhead: { memory_limit_in_bytes: 1 },
          security_context: {
            namespace_options: { pid: 'CONTAINER', userns_options: { mode: 'NODE' } },
            seccomp: { profile_type: 'RuntimeDefault' },
          },
        },
      }),
    ).toMatchObject({
      hostname: 'web-0',
      dns: { servers: ['10.0.0.10', 'fe80::1%eth0'], searches: ['svc.cluster.local', '.'] },
      portMappings: [{ protocol: 'udp', containerPort: 53, hostPort: 5353, hostIp: '::1' }],
      cgroupParent: '/kubepods/burstable/podu-1',
      namespaces: { network: 'pod', pid: 'container', ipc: 'pod' },
      resources: { cpuQuota: 50_000n, cpuPeriod: 100_000n, cpuShares: 512n, memoryLimitBytes: 268_435_456n },
      overhead: { memoryLimitBytes: 1n },
    });
  });

  test.each([
    [null, 'invalid: config is not set'],
    [{}, 'invalid: config.metadata is not set'],
    [{ metadata: { ...metadata, name: '' } }, 'invalid: config.metadata.name "" is not a name'],
    [{ metadata: { ...metadata, uid: '' } }, 'invalid: config.metadata.uid "" is not a name'],
    [
      { metadata: { ...metadata, namespace: 'a;K8S_POD_NAME=b' } },
      'invalid: config.metadata.namespace "a;K8S_POD_NAME=b" is not a name',
    ],
    [{ metadata: { ...metadata, name: '../x' } }, 'invalid: config.metadata.name'],
    [{ metadata, hostname: 'a b' }, 'invalid: config.hostname "a b" is not a host name'],
    [{ metadata, hostname: 'x'.repeat(65) }, 'invalid: config.hostname'],
    [{ metadata, log_directory: 'logs' }, 'invalid: config.log_directory "logs" is not an absolute path'],
    [
      { metadata, dns_config: { servers: ['dns.example'] } },
      'invalid: config.dns_config.servers has "dns.example", which is not an IP',
    ],
    [{ metadata, dns_config: { searches: ['a\nnameserver 6.6.6.6'] } }, 'invalid: config.dns_config.searches'],
    [
      { metadata, port_mappings: [{ host_port: 70000, container_port: 1 }] },
      'invalid: config.port_mappings[0].host_port 70000 is not a port',
    ],
    [
      { metadata, port_mappings: [{ host_port: 80 }] },
      'invalid: config.port_mappings[0].container_port 0 is not a port',
    ],
    [
      { metadata, port_mappings: [{ host_port: 80, container_port: 80, host_ip: 'lo' }] },
      'invalid: config.port_mappings[0].host_ip',
    ],
    [
      { metadata, port_mappings: [{ host_port: 80, container_port: 80, protocol: 9 }] },
      'invalid: config.port_mappings[0].protocol has the unknown value 9',
    ],
    [{ metadata, linux: { cgroup_parent: '/a/../../b' } }, 'invalid: config.linux.cgroup_parent'],
    [
      { metadata, linux: { cgroup_parent: 'a' } },
      'invalid: config.linux.cgroup_parent "a" is neither an absolute path nor a slice',
    ],
    [{ metadata, linux: { sysctls: { 'net..x': '1' } } }, 'invalid: config.linux.sysctls'],
    [{ metadata, linux: { resources: { cpu_quota: -2 } } }, 'invalid: config.linux.resources.cpu_quota -2 is below -1'],
    [{ metadata, linux: { resources: { oom_score_adj: 1001 } } }, 'invalid: config.linux.resources.oom_score_adj'],
    [{ metadata, linux: { resources: { cpuset_cpus: '0;1' } } }, 'invalid: config.linux.resources.cpuset_cpus'],
    [{ metadata, linux: { resources: { unified: { '../x': '1' } } } }, 'invalid: config.linux.resources.unified'],
    [{ metadata, windows: {} }, 'unimplemented: config.windows: this is a runtime for Linux'],
    [
      withNamespaces({ network: 'CONTAINER' }),
      'invalid: config.linux.security_context.namespace_options.network cannot be CONTAINER',
    ],
    [
      withNamespaces({ pid: 'TARGET', target_id: 'x' }),
      'invalid: config.linux.security_context.namespace_options.pid cannot be TARGET in a sandbox',
    ],
    [
      withNamespaces({ userns_options: {} }),
      'invalid: config.linux.security_context.namespace_options.userns_options has no mappings',
    ],
  ])('%j is refused', (config, message) => {
    expect(refusal(config).slice(0, message.length)).toBe(message);
  });

  test.each(['network', 'pid', 'ipc'])("the host's %s namespace is refused with what to do", (kind) => {
    const message = refusal(withNamespaces({ [kind]: 'NODE' }));
    expect(message).toMatch(
      new RegExp(`^unimplemented: .*namespace_options.${kind}: NODE asks for the host's ${kind} namespace`),
    );
    expect(message).toContain('set endpoint in [host_runtime]');
  });
});

test('handlers: empty is the default one', () => {
  expect(parseHandler('', ['kelyfos'])).toBe('');
  expect(parseHandler('big', ['kelyfos', 'big'])).toBe('big');
  expect(() => parseHandler('x', ['kelyfos'])).toThrow('runtime_handler "x" is not configured (there are: kelyfos)');
});
