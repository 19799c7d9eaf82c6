import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  Mount_Kind,
  Mount_Propagation,
  Namespaces_Mode,
  Seccomp_Kind,
  type CreateContainerRequestSchema,
  type DeviceSchema,
  type MountSchema,
  type SeccompSchema,
} from '../agent/gen/agent/v1/agent_pb.js';
import { AppError } from '../platform/errors.ts';
import { capabilitySets } from './capabilities.ts';
import type { ContainerId } from './ids.ts';
import type { ContainerConfig, ContainerSecurity, NamespaceMode } from './model.ts';
import type { ImageConfig } from './ports.ts';
import { guestResources, refuseHugePages } from './resources.ts';
import type { BoundVolume } from './volumes.ts';

type SpecInit = MessageInitShape<typeof CreateContainerRequestSchema>;
type MountInit = MessageInitShape<typeof MountSchema>;

/** Where the guest mounts its 9p share. */
const guestShare = '/share';

const defaultPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const defaultMounts: readonly MountInit[] = [
  { kind: Mount_Kind.PROC, destination: '/proc', options: ['nosuid', 'noexec', 'nodev'] },
  { kind: Mount_Kind.DEV, destination: '/dev', options: ['nosuid', 'noexec'] },
  { kind: Mount_Kind.DEVPTS, destination: '/dev/pts', options: ['nosuid', 'noexec'] },
  { kind: Mount_Kind.MQUEUE, destination: '/dev/mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  { kind: Mount_Kind.SHM, destination: '/dev/shm', options: ['nosuid', 'noexec', 'nodev'] },
];

const podFiles: readonly MountInit[] = [
  { kind: Mount_Kind.HOSTS, destination: '/etc/hosts' },
  { kind: Mount_Kind.RESOLV_CONF, destination: '/etc/resolv.conf' },
  { kind: Mount_Kind.HOSTNAME, destination: '/etc/hostname' },
];

const propagations = {
  private: Mount_Propagation.PRIVATE,
  'host-to-container': Mount_Propagation.SLAVE,
  bidirectional: Mount_Propagation.SHARED,
} as const;

const namespaceModes: Record<Exclude<NamespaceMode, 'node'>, Namespaces_Mode> = {
  pod: Namespaces_Mode.POD,
  container: Namespaces_Mode.CONTAINER,
  target: Namespaces_Mode.TARGET,
};

export interface ContainerSpecInput {
  readonly id: ContainerId;
  readonly config: ContainerConfig;
  readonly image: ImageConfig;
  /** Serial of the disk that holds the image. */
  readonly disk: string;
  readonly volumes: readonly BoundVolume[];
  readonly hostname: string;
  /** Content of the seccomp profile that config.security.seccomp names. */
  readonly seccompProfile: Uint8Array | undefined;
}

/** Joins what the pod asks for with what the image says into what the agent is told. Pure. */
export function containerSpec(input: ContainerSpecInput): SpecInit {
  const { config, image } = input;
  const { security } = config;
  const argv = commandLine(config, image);
  return {
    id: input.id,
    rootfs: { imageDisk: input.disk, readonly: security.readonlyRootfs },
    process: {
      argv,
      env: environment(config, image, input.hostname),
      cwd: config.workingDir !== '' ? config.workingDir : image.workingDir,
      user: user(security, image),
      capabilities: capabilitySets(security.capabilities, security.privileged),
      noNewPrivileges: security.noNewPrivileges,
      seccomp: seccomp(security, input.seccompProfile),
      oomScoreAdj: config.resources?.oomScoreAdj ?? 0,
    },
    mounts: mounts(input),
    maskedPaths: security.privileged ? [] : [...security.maskedPaths],
    readonlyPaths: security.privileged ? [] : [...security.readonlyPaths],
    devices: devices(config),
    ...resources(config),
    namespaces: {
      pid: namespaceMode(security.namespaces.pid, 'pid'),
      pidTarget: security.namespaces.targetId,
      ipc: namespaceMode(security.namespaces.ipc, 'ipc'),
    },
    stdio: { stdin: config.stdin, stdinOnce: config.stdinOnce, tty: config.tty },
  };
}

/** Kubernetes: command replaces the entrypoint and drops the image's cmd; args replace cmd. */
function commandLine(config: ContainerConfig, image: ImageConfig): string[] {
  const entrypoint = config.command.length > 0 ? config.command : image.entrypoint;
  const args = config.args.length > 0 ? config.args : config.command.length > 0 ? [] : image.cmd;
  const argv = [...entrypoint, ...args];
  if (argv.length === 0)
    throw new AppError('invalid', `no command: neither the container nor image "${config.image}" names one`);
  return argv;
}

/** Later entries win; HOSTNAME and PATH are defaults. HOME and TERM are the agent's, which knows passwd and the terminal. */
function environment(config: ContainerConfig, image: ImageConfig, hostname: string): string[] {
  const values = new Map<string, string>();
  const add = (entry: string): void => {
    values.set(entry.split('=', 1)[0] ?? entry, entry);
  };
  add(defaultPath);
  add(`HOSTNAME=${hostname}`);
  image.env.forEach(add);
  for (const { key, value } of config.env) add(`${key}=${value}`);
  return [...values.values()];
}

function user(
  security: ContainerSecurity,
  image: ImageConfig,
): { username: string; gid?: number; gidSet?: boolean; additionalGids: number[]; strictGroups: boolean } {
  const asked = security.runAsUser?.toString() ?? security.runAsUsername;
  const base = asked !== '' ? asked : image.user;
  return {
    username: base !== '' ? base : '0',
    ...(security.runAsGroup === undefined ? {} : { gid: security.runAsGroup, gidSet: true }),
    additionalGids: [...security.supplementalGroups],
    strictGroups: security.strictSupplementalGroups,
  };
}

function seccomp(security: ContainerSecurity, profile: Uint8Array | undefined): MessageInitShape<typeof SeccompSchema> {
  if (security.privileged || security.seccomp.type === 'unconfined') return { kind: Seccomp_Kind.UNCONFINED };
  if (security.seccomp.type === 'runtime-default') return { kind: Seccomp_Kind.RUNTIME_DEFAULT };
  if (profile === undefined)
    throw new AppError('internal', `seccomp profile "${security.seccomp.localhostRef}" was not read`);
  return { kind: Seccomp_Kind.PROFILE, profile };
}

function mounts(input: ContainerSpecInput): MountInit[] {
  const { config, volumes } = input;
  const { privileged } = config.security;
  const taken = new Set(volumes.map(({ mount }) => normalize(mount.containerPath)));
  const base: MountInit[] = [
    ...defaultMounts,
    { kind: Mount_Kind.SYSFS, destination: '/sys', readonly: !privileged, options: ['nosuid', 'noexec', 'nodev'] },
    {
      kind: Mount_Kind.CGROUP,
      destination: '/sys/fs/cgroup',
      readonly: !privileged,
      options: ['nosuid', 'noexec', 'nodev', 'relatime'],
    },
    ...podFiles.map((file) => ({ ...file, readonly: config.security.readonlyRootfs })),
  ].filter((mount) => !taken.has(mount.destination ?? ''));
  // A volume below another one must come after it, whatever order they were given in.
  const ordered = volumes.toSorted((a, b) => depth(a.mount.containerPath) - depth(b.mount.containerPath));
  return [...base, ...ordered.map(volumeMount)];
}

function volumeMount({ mount, inShare }: BoundVolume): MountInit {
  return {
    kind: Mount_Kind.BIND,
    source: `${guestShare}/${inShare}`,
    destination: normalize(mount.containerPath),
    readonly: mount.readonly,
    recursiveReadonly: mount.recursiveReadonly,
    recursive: true,
    propagation: propagations[mount.propagation],
  };
}

function normalize(path: string): string {
  const trimmed = path.replace(/\/+/g, '/').replace(/(.)\/$/, '$1');
  return trimmed.startsWith('/') ? trimmed : `/${trimmed}`;
}

function depth(path: string): number {
  return normalize(path).split('/').length;
}

function devices(config: ContainerConfig): MessageInitShape<typeof DeviceSchema>[] {
  const [first] = config.devices;
  if (first !== undefined) {
    throw new AppError(
      'unimplemented',
      `device "${first.hostPath}": host devices cannot be given to a virtual machine yet`,
    );
  }
  return config.security.privileged ? [{ all: true, access: 'rwm' }] : [];
}

function resources({ resources: limits }: ContainerConfig): Pick<SpecInit, 'resources'> {
  if (limits === undefined) return {};
  refuseHugePages(limits);
  return { resources: guestResources(limits) };
}

function namespaceMode(mode: NamespaceMode, which: string): Namespaces_Mode {
  if (mode === 'node')
    throw new AppError(
      'failed-precondition',
      `a container cannot use the host's ${which} namespace in a virtual machine`,
    );
  return namespaceModes[mode];
}
