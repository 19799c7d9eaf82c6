import { resolve } from 'node:path';
import { parseDuration, parseSize } from '../config/units.ts';
import { CommandError } from './fail.ts';
import { maskedPaths, readonlyPaths } from './hidden-paths.ts';

/** What commander hands over, names as the options. */
export interface RunOptions {
  readonly env: readonly string[];
  readonly volume: readonly string[];
  readonly publish: readonly string[];
  readonly label: readonly string[];
  readonly dns: readonly string[];
  readonly name?: string;
  readonly hostname?: string;
  readonly workdir?: string;
  readonly user?: string;
  readonly entrypoint?: string;
  readonly memory?: string;
  readonly cpus?: string;
  readonly handler?: string;
  readonly stopSignal?: string;
  readonly timeout?: string;
  readonly stopTimeout: string;
  readonly pull: string;
  readonly readOnly?: boolean;
  readonly privileged?: boolean;
}

/** Everything `kelyfos run` asks the runtime for, in the messages of the API. */
export interface RunRequest {
  readonly image: string;
  readonly pull: 'missing' | 'always' | 'never';
  readonly handler: string;
  readonly timeoutMs: number | undefined;
  readonly stopSeconds: number;
  sandboxConfig(metadata: PodMetadata, logDirectory: string): object;
  containerConfig(imageRef: string): object;
}

export interface PodMetadata {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly attempt: number;
}

export const containerLogPath = 'run/0.log';

const cpuPeriodUs = 100_000;

function bad(option: string, found: string, accepted: string): CommandError {
  return new CommandError(`${option}: found "${found}", accepted: ${accepted}`);
}

/** KEY=VALUE, or KEY alone for the value of our own environment. */
function parseEnv(entry: string, environment: NodeJS.ProcessEnv): { key: string; value: Buffer }[] {
  const at = entry.indexOf('=');
  if (at === 0 || entry === '') throw bad('--env', entry, 'KEY=VALUE, or KEY');
  if (at > 0) return [{ key: entry.slice(0, at), value: Buffer.from(entry.slice(at + 1)) }];
  const value = environment[entry];
  return value === undefined ? [] : [{ key: entry, value: Buffer.from(value) }];
}

function parseVolume(entry: string): object {
  const [host = '', container = '', options = 'rw', ...more] = entry.split(':');
  if (host === '' || !container.startsWith('/') || more.length > 0 || !['ro', 'rw'].includes(options)) {
    throw bad('--volume', entry, 'HOST:CONTAINER, HOST:CONTAINER:ro or HOST:CONTAINER:rw');
  }
  return { host_path: resolve(host), container_path: container, readonly: options === 'ro' };
}

function parsePublish(entry: string): object {
  const match = /^(?:(\[[^\]]+\]|[^:]+):)?(\d+):(\d+)(?:\/(tcp|udp|sctp))?$/.exec(entry);
  if (match === null) throw bad('--publish', entry, '[IP:]HOSTPORT:PORT[/tcp|udp|sctp]');
  const [, ip = '', hostPort = '', port = '', protocol = 'tcp'] = match;
  return {
    host_ip: ip.replace(/^\[(.*)\]$/, '$1'),
    host_port: Number(hostPort),
    container_port: Number(port),
    protocol: protocol.toUpperCase(),
  };
}

/** USER, UID, USER:GID or UID:GID. */
function parseUser(text: string): object {
  const [user = '', group, ...more] = text.split(':');
  if (user === '' || more.length > 0 || (group !== undefined && !/^\d+$/.test(group))) {
    throw bad('--user', text, 'a user name or id, with or without a group id after a colon');
  }
  return {
    ...(/^\d+$/.test(user) ? { run_as_user: { value: user } } : { run_as_username: user }),
    ...(group === undefined ? {} : { run_as_group: { value: group } }),
  };
}

function parseLabel(entry: string): readonly [string, string] {
  const at = entry.indexOf('=');
  return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
}

function parseResources(options: RunOptions): object {
  const { memory, cpus } = options;
  const bytes = memory === undefined ? 0 : parseSize(memory);
  if (bytes === undefined) throw bad('--memory', memory ?? '', 'a size such as "512MiB"');
  const cores = Number(cpus ?? '0');
  if (!(cores >= 0)) throw bad('--cpus', cpus ?? '', 'a number of processors such as 1.5');
  return {
    memory_limit_in_bytes: String(bytes),
    ...(cores === 0 ? {} : { cpu_period: cpuPeriodUs, cpu_quota: Math.round(cores * cpuPeriodUs) }),
  };
}

function parseSignalName(text: string): string {
  const name = text.toUpperCase().replace(/^(SIGNAL_)?(SIG)?/, 'SIGNAL_SIG');
  if (!/^SIGNAL_SIG[A-Z0-9]+$/.test(name)) throw bad('--stop-signal', text, 'a name such as SIGINT');
  return name;
}

function parsePull(text: string): RunRequest['pull'] {
  if (text === 'missing' || text === 'always' || text === 'never') return text;
  throw bad('--pull', text, '"missing", "always" or "never"');
}

export function parseRunRequest(
  image: string,
  command: readonly string[],
  options: RunOptions,
  environment: NodeJS.ProcessEnv,
): RunRequest {
  const envs = options.env.flatMap((entry) => parseEnv(entry, environment));
  const mounts = options.volume.map(parseVolume);
  const portMappings = options.publish.map(parsePublish);
  const labels = Object.fromEntries(options.label.map(parseLabel));
  const user = options.user === undefined ? {} : parseUser(options.user);
  const resources = parseResources(options);
  const stopSignal = options.stopSignal === undefined ? {} : { stop_signal: parseSignalName(options.stopSignal) };
  const timeoutMs = options.timeout === undefined ? undefined : parseDuration(options.timeout);
  if (timeoutMs === undefined && options.timeout !== undefined)
    throw bad('--timeout', options.timeout, 'a duration such as "30s"');
  const stopMs = parseDuration(options.stopTimeout);
  if (stopMs === undefined) throw bad('--stop-timeout', options.stopTimeout, 'a duration such as "10s"');
  const privileged = options.privileged ?? false;
  return {
    image,
    pull: parsePull(options.pull),
    handler: options.handler ?? '',
    timeoutMs,
    stopSeconds: Math.ceil(stopMs / 1000),
    sandboxConfig: (metadata, logDirectory) => ({
      metadata: { ...metadata, name: options.name ?? metadata.name },
      hostname: options.hostname ?? metadata.name,
      log_directory: logDirectory,
      port_mappings: portMappings,
      labels,
      ...(options.dns.length === 0 ? {} : { dns_config: { servers: options.dns } }),
      linux: { security_context: { privileged, namespace_options: { pid: 'CONTAINER' } }, resources },
    }),
    containerConfig: (imageRef) => ({
      metadata: { name: 'run' },
      image: { image: imageRef, user_specified_image: image },
      command: options.entrypoint === undefined ? [] : [options.entrypoint],
      args: command,
      working_dir: options.workdir ?? '',
      envs,
      mounts,
      labels,
      log_path: containerLogPath,
      ...stopSignal,
      linux: {
        resources,
        security_context: {
          privileged,
          readonly_rootfs: options.readOnly ?? false,
          namespace_options: { pid: 'CONTAINER' },
          seccomp: { profile_type: privileged ? 'Unconfined' : 'RuntimeDefault' },
          masked_paths: privileged ? [] : maskedPaths,
          readonly_paths: privileged ? [] : readonlyPaths,
          ...user,
        },
      },
    }),
  };
}
