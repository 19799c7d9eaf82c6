import { isIP } from 'node:net';
import type { DnsConfig, SandboxConfig, SandboxMetadata } from '../podsandbox/model.ts';
import type { PortMapping } from '../podsandbox/ports.ts';
import {
  absolute,
  enumValue,
  invalid,
  nonEmpty,
  objectName,
  plain,
  required,
  stringMap,
  unsupported,
} from './fields.ts';
import type * as cri from './gen/cri-types.ts';
import { parseNamespaces } from './parse-namespaces.ts';
import { parseResources } from './parse-resources.ts';
import { checkSelinux } from './parse-security.ts';

/** Of sethostname(2). */
const maxHostname = 64;

const protocols = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const;

function metadata(message: cri.PodSandboxMetadata | null): SandboxMetadata {
  const { name, uid, namespace, attempt } = required(message, 'config.metadata');
  return {
    name: objectName(name, 'config.metadata.name'),
    uid: objectName(uid, 'config.metadata.uid'),
    namespace: objectName(namespace, 'config.metadata.namespace'),
    attempt,
  };
}

function hostname(text: string): string {
  if (text === '') return '';
  if (text.length > maxHostname || !/^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$/.test(text)) {
    throw invalid('config.hostname', `"${text}" is not a host name of at most ${String(maxHostname)} characters`);
  }
  return text;
}

/** Everything becomes a line of resolv.conf, so nothing may hold white space. */
function dns(message: cri.DNSConfig | null): DnsConfig | undefined {
  if (message === null) return undefined;
  const words = (list: readonly string[], field: string): readonly string[] =>
    list.map((word) => {
      if (!/^\S+$/.test(word)) throw invalid(`config.dns_config.${field}`, `has "${word}", which is not one word`);
      return word;
    });
  const servers = words(message.servers, 'servers');
  for (const server of servers) {
    // A zone, as in fe80::1%eth0, is fine for the resolver.
    if (isIP(server) === 0) throw invalid('config.dns_config.servers', `has "${server}", which is not an IP address`);
  }
  return { servers, searches: words(message.searches, 'searches'), options: words(message.options, 'options') };
}

/** Entries without a host port are for information only. */
function portMappings(list: readonly cri.PortMapping[]): readonly PortMapping[] {
  return list
    .filter((mapping) => mapping.host_port !== 0)
    .map((mapping, index) => {
      const field = `config.port_mappings[${String(index)}]`;
      const port = (value: number, name: string): number => {
        if (value < 1 || value > 65535) throw invalid(`${field}.${name}`, `${String(value)} is not a port`);
        return value;
      };
      if (mapping.host_ip !== '' && isIP(mapping.host_ip) === 0) {
        throw invalid(`${field}.host_ip`, `"${mapping.host_ip}" is not an IP address`);
      }
      return {
        protocol: enumValue(mapping.protocol, protocols, `${field}.protocol`),
        containerPort: port(mapping.container_port, 'container_port'),
        hostPort: port(mapping.host_port, 'host_port'),
        hostIp: mapping.host_ip,
      };
    });
}

function cgroupParent(path: string): string {
  const field = 'config.linux.cgroup_parent';
  if (path === '') return '';
  if (plain(path, field).split('/').includes('..')) throw invalid(field, `"${path}" leads out of the cgroup tree`);
  if (!path.startsWith('/') && !path.endsWith('.slice')) {
    throw invalid(field, `"${path}" is neither an absolute path nor a slice`);
  }
  return path;
}

/** Parameters that something else in a request stands for. */
const otherwiseSaid: Readonly<Record<string, string>> = {
  'kernel.hostname': 'config.hostname',
  'kernel.domainname': 'config.hostname',
};

function sysctls(map: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  for (const [name, value] of Object.entries(map)) {
    const instead = otherwiseSaid[name.replaceAll('/', '.')];
    if (instead !== undefined) throw invalid('config.linux.sysctls', `has "${name}", which ${instead} says`);
    if (!/^[A-Za-z0-9_-]+([./][A-Za-z0-9_:*@-]+)+$/.test(name))
      throw invalid('config.linux.sysctls', `has no valid name "${name}"`);
    plain(value, `config.linux.sysctls[${name}]`);
  }
  return stringMap(map);
}

/** What RunPodSandbox is asked for. Throws what the client has to correct, or what this version cannot do. */
export function parseSandboxConfig(message: cri.PodSandboxConfig | null): SandboxConfig {
  const config = required(message, 'config');
  if (config.windows !== null) throw unsupported('config.windows', 'this is a runtime for Linux');
  const { linux } = config;
  const security = linux?.security_context ?? null;
  checkSelinux(security?.selinux_options ?? null, 'config.linux.security_context.selinux_options');
  return {
    metadata: metadata(config.metadata),
    hostname: hostname(config.hostname),
    logDirectory: config.log_directory === '' ? '' : absolute(config.log_directory, 'config.log_directory'),
    dns: dns(config.dns_config),
    portMappings: portMappings(config.port_mappings),
    labels: stringMap(config.labels),
    annotations: stringMap(config.annotations),
    cgroupParent: cgroupParent(linux?.cgroup_parent ?? ''),
    sysctls: sysctls(linux?.sysctls ?? {}),
    privileged: security?.privileged ?? false,
    namespaces: parseNamespaces(
      security?.namespace_options ?? null,
      'sandbox',
      'config.linux.security_context.namespace_options',
    ),
    resources: parseResources(linux?.resources ?? null, 'config.linux.resources'),
    overhead: parseResources(linux?.overhead ?? null, 'config.linux.overhead'),
  };
}

export function parseHandler(name: string, known: readonly string[]): string {
  if (name === '' || known.includes(name)) return name;
  throw invalid(
    'runtime_handler',
    `"${nonEmpty(name, 'runtime_handler')}" is not configured (there are: ${known.join(', ')})`,
  );
}
