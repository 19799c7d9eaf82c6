import { AppError } from '../../platform/errors.ts';
import type { ContainerConfig, ContainerDevice, ContainerMount } from '../model.ts';
import { readCdiFiles } from './cdi-files.ts';
import type { CdiEdits } from './cdi-spec.ts';

/** Of a mount: what a volume is anyhow. */
const plainOptions: ReadonlySet<string> = new Set(['bind', 'rbind', 'nosuid', 'nodev', 'rw', 'private', 'rprivate']);
const slaveOptions: ReadonlySet<string> = new Set(['slave', 'rslave']);

/** Something of a file that a container in a virtual machine cannot have. */
class Refusal extends Error {}

/** The configuration with what the CDI devices in it stand for. Folders: the later wins. */
export async function injectCdiDevices(config: ContainerConfig, folders: readonly string[]): Promise<ContainerConfig> {
  if (config.cdiDevices.length === 0) return config;
  const { devices, problems } = await readCdiFiles(folders);
  const missing = config.cdiDevices.filter((name) => !devices.has(name));
  if (missing.length > 0) {
    const names = missing.map((name) => `"${name}"`).join(', ');
    const why = problems.length > 0 ? `; ${problems.join('; ')}` : '';
    throw new AppError('not-found', `unresolvable CDI devices ${names}: not in a file of ${folders.join(', ')}${why}`);
  }
  let edited = config;
  const filesDone = new Set<string>();
  for (const name of config.cdiDevices) {
    const device = devices.get(name);
    if (device === undefined) continue;
    try {
      if (!filesDone.has(device.file)) edited = applyEdits(edited, device.shared ?? {});
      filesDone.add(device.file);
      edited = applyEdits(edited, device.own);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      throw new AppError('failed-precondition', `CDI device "${name}" of ${device.file}: ${error.message}`);
    }
  }
  return edited;
}

function applyEdits(config: ContainerConfig, edits: CdiEdits): ContainerConfig {
  const [hook] = edits.hooks ?? [];
  if (hook !== undefined) {
    throw new Refusal(
      `its ${hook.hookName} hook ${hook.path} would run on the host, where there is no process of a container in a ` +
        'virtual machine; run the pod by a handler of the host runtime instead',
    );
  }
  if ((edits.netDevices ?? []).length > 0)
    throw new Refusal('network devices of the host cannot be moved into a guest');
  if (edits.intelRdt !== undefined)
    throw new Refusal('cache and bandwidth classes (intelRdt) are not there in a guest');
  const gids = (edits.additionalGids ?? []).filter((gid) => gid !== 0);
  return {
    ...config,
    env: [...config.env, ...(edits.env ?? []).map(environmentEntry)],
    devices: [...config.devices, ...(edits.deviceNodes ?? []).map(deviceOf)],
    mounts: [...config.mounts, ...(edits.mounts ?? []).map(mountOf)],
    security: {
      ...config.security,
      supplementalGroups: [...new Set([...config.security.supplementalGroups, ...gids])],
    },
  };
}

function environmentEntry(entry: string): { readonly key: string; readonly value: string } {
  const at = entry.indexOf('=');
  return { key: entry.slice(0, at), value: entry.slice(at + 1) };
}

function deviceOf(node: NonNullable<CdiEdits['deviceNodes']>[number]): ContainerDevice {
  return {
    containerPath: node.path,
    hostPath: node.hostPath ?? node.path,
    permissions: node.permissions ?? '',
    node: {
      ...(node.fileMode === undefined ? {} : { mode: node.fileMode & 0o7777 }),
      ...(node.uid === undefined ? {} : { uid: node.uid }),
      ...(node.gid === undefined ? {} : { gid: node.gid }),
    },
  };
}

function mountOf({
  hostPath,
  containerPath,
  options = [],
  type,
}: NonNullable<CdiEdits['mounts']>[number]): ContainerMount {
  if (type !== undefined && !['', 'none', 'bind', 'rbind'].includes(type)) {
    throw new Refusal(
      `its mount at ${containerPath} is of the type "${type}"; only files and folders of the host can be`,
    );
  }
  const odd = options.find((option) => option !== 'ro' && !plainOptions.has(option) && !slaveOptions.has(option));
  if (odd !== undefined)
    throw new Refusal(`its mount at ${containerPath} has the option "${odd}", which is not supported`);
  return {
    containerPath,
    hostPath,
    readonly: options.includes('ro'),
    selinuxRelabel: false,
    propagation: options.some((option) => slaveOptions.has(option)) ? 'host-to-container' : 'private',
    recursiveReadonly: false,
  };
}
