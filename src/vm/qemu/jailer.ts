import type { MachineSpec, TemplateMemory } from '../hypervisor.ts';

/** Descriptors that QEMU may open: sockets, image slots, hot-added disks, 9p files of the guest. */
const maxOpenFiles = 16_384;

export interface JailerConfig {
  /** The kelyfos-jailer binary. */
  readonly binary: string;
  /** The QEMU binary: a name that is looked up in the jail's /usr, or a path. */
  readonly qemu: string;
  /** Places outside /usr that this QEMU needs, shown read-only at the same place. */
  readonly readOnlyPaths: readonly string[];
}

export interface JailExtras {
  readonly memory?: TemplateMemory;
  readonly stateFile?: string;
  /** The machine may make files, in a /run of its own: a template, in which no pod has ever run. */
  readonly run?: boolean;
  /** No huge pages. */
  readonly smallPages?: boolean;
}

/** Arguments of kelyfos-jailer that end in an exec of QEMU. */
export function jailerArguments(
  config: JailerConfig,
  spec: MachineSpec,
  extras: JailExtras,
  qemuArguments: readonly string[],
): string[] {
  const { folder, uid } = spec;
  return [
    'run',
    ...['--uid', String(uid)],
    ...['--gid', String(uid)],
    ...['--netns', spec.netns],
    ...spec.cgroups.flatMap((path) => ['--cgroup', path]),
    ...(extras.run === true ? ['--run', folder.run] : []),
    ...['--share', folder.share],
    ...['--disks', folder.disks],
    ...['--scratch', folder.scratch],
    ...['--guest', spec.shape.guest.folder],
    ...config.readOnlyPaths.flatMap((path) => ['--read-only', path]),
    ...['--tap', spec.tap],
    ...(extras.memory ? ['--memory', extras.memory.path] : []),
    ...(extras.stateFile !== undefined ? ['--state-file', extras.stateFile] : []),
    // In the order of their descriptors.
    ...[folder.monitorSocket, folder.dataSocket, folder.resetSocket].flatMap((path) => ['--listen', path]),
    ...['--console', folder.serialLog],
    ...(spec.shape.accelerator === 'kvm' ? ['--kvm'] : []),
    ...['--rlimit', `NOFILE=${String(maxOpenFiles)}`],
    ...(extras.smallPages === true ? ['--small-pages'] : []),
    '--file-capabilities',
    '--',
    config.qemu,
    ...qemuArguments,
  ];
}
