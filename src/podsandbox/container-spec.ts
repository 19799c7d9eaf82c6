import { posix } from 'node:path';
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
import { blockKey, imageKey, serialOf } from './container-disks.ts';
import type { GuestDevice } from './devices.ts';
import type { ContainerId } from './ids.ts';
import type { ContainerConfig, ContainerMount, ContainerSecurity, NamespaceMode } from './model.ts';
import type { Image, ImageConfig } from './ports.ts';
import type { AttachedDisk } from './records.ts';
import { guestResources, refuseHugePages } from './resources.ts';
import type { BoundVolume } from './volumes.ts';

type SpecInit = MessageInitShape<typeof CreateContainerRequestSchema>;
type MountInit = MessageInitShape<typeof MountSchema>;

/** Where the guest mounts its 9p share. */
const guestShare = '/share';

const defaultPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const defaultMounts: readonly MountInit[] = [
  { kind: Mount_Kind.PROC, destination: '/proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    kind: Mount_Kind.DEV,
    destination: '/dev',
    // The mode of a tmpfs is 1777 otherwise: all could write, and root not open with O_CREAT what another owns.
    options: ['nosuid', 'noexec', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    kind: Mount_Kind.DEVPTS,
    destination: '/dev/pts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
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
  readonly image: Pick<Image, 'id' | 'config'>;
  /** Those of its image, of its image volumes and of its block devices. */
  readonly disks: readonly AttachedDisk[];
  readonly devices: readonly GuestDevice[];
  readonly volumes: readonly BoundVolume[];
  /** Whether the image stays mounted when the container is removed, for the next one. */
  readonly keepImage?: boolean;
  /** Of the guest itself, to be read and run under the same path. */
  readonly guestFiles?: readonly string[];
  readonly hostname: string;
  /** Content of the seccomp profile that config.security.seccomp names. */
  readonly seccompProfile: Uint8Array | undefined;
}

/** Joins what the pod asks for with what the image says into what the agent is told. Pure. */
export function containerSpec(input: ContainerSpecInput): SpecInit {
  const { config } = input;
  const image = input.image.config;
  const { security } = config;
  const argv = commandLine(config, image);
  return {
    id: input.id,
    rootfs: {
      imageDisk: serial(input, imageKey(input.image.id)),
      readonly: security.readonlyRootfs,
      keepImage: input.keepImage ?? false,
    },
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
    devices: devices(input),
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
  const taken = new Set(config.mounts.map(({ containerPath }) => normalize(containerPath)));
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
  const all = [
    ...volumes.map(volumeMount),
    ...(input.guestFiles ?? []).map(guestFileMount),
    ...config.mounts.flatMap((mount) => imageVolume(mount, input)),
    // The pod's own choice of what is there comes before the image's.
    ...[...new Set(input.image.config.volumes.map(normalize))]
      .filter((path) => path !== '/' && !taken.has(path))
      .map((destination): MountInit => ({ kind: Mount_Kind.VOLUME, destination })),
  ];
  // A volume below another one must come after it, whatever order they were given in.
  const ordered = all.toSorted((a, b) => depth(a.destination ?? '') - depth(b.destination ?? ''));
  return [...base, ...ordered];
}

function imageVolume({ image, containerPath }: ContainerMount, input: ContainerSpecInput): MountInit[] {
  if (image === undefined) return [];
  const destination = normalize(containerPath);
  const { subPath } = image;
  return [{ kind: Mount_Kind.IMAGE, source: serial(input, imageKey(image.id)), destination, subPath, readonly: true }];
}

function serial({ disks }: ContainerSpecInput, key: string): string {
  const found = serialOf({ disks }, key);
  if (found === undefined) throw new AppError('internal', `no disk has ${key}`);
  return found;
}

function guestFileMount(path: string): MountInit {
  return { kind: Mount_Kind.BIND, source: path, destination: path, readonly: true };
}

function volumeMount({ mount, inShare, readonly }: BoundVolume): MountInit {
  return {
    kind: Mount_Kind.BIND,
    source: `${guestShare}/${inShare}`,
    destination: normalize(mount.containerPath),
    readonly,
    recursive: true,
    propagation: propagations[mount.propagation],
  };
}

function normalize(path: string): string {
  const trimmed = posix.normalize(`/${path}`);
  return trimmed.length > 1 && trimmed.endsWith('/') ? trimmed.slice(0, -1) : trimmed;
}

function depth(path: string): number {
  return normalize(path).split('/').length;
}

function devices(input: ContainerSpecInput): MessageInitShape<typeof DeviceSchema>[] {
  const asked = input.devices.map((device) => {
    const { containerPath: path, access, uid, gid, mode } = device;
    const what = device.kind === 'block' ? { disk: serial(input, blockKey(device)) } : { source: device.guestPath };
    return { path: normalize(path), access, uid, gid, mode, ...what };
  });
  return input.config.security.privileged ? [{ all: true, access: 'rwm' }, ...asked] : asked;
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
