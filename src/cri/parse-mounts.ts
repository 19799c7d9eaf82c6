import type { ContainerDevice, ContainerMount } from '../podsandbox/model.ts';
import { absolute, enumValue, invalid, unsupported } from './fields.ts';
import type * as cri from './gen/cri-types.ts';

const propagations = {
  PROPAGATION_PRIVATE: 'private',
  PROPAGATION_HOST_TO_CONTAINER: 'host-to-container',
  PROPAGATION_BIDIRECTIONAL: 'bidirectional',
} as const;

function parseMount(mount: cri.Mount, field: string): ContainerMount {
  const containerPath = absolute(mount.container_path, `${field}.container_path`);
  if (mount.image !== null && mount.image.image !== '') {
    throw unsupported(`${field}.image`, `image volume at ${containerPath} is not supported in this version`);
  }
  if (mount.uidMappings.length > 0 || mount.gidMappings.length > 0) {
    throw unsupported(field, `id-mapped mount at ${containerPath} is not supported in this version`);
  }
  if (mount.mount_options.length > 0) {
    throw unsupported(
      `${field}.mount_options`,
      `${mount.mount_options.join(',')} at ${containerPath} is not supported in this version`,
    );
  }
  const propagation = enumValue(mount.propagation, propagations, `${field}.propagation`);
  if (propagation === 'bidirectional') {
    throw unsupported(
      `${field}.propagation`,
      `mounts made at ${containerPath} in a virtual machine cannot appear on the host (bidirectional); such pods ` +
        'go to another CRI runtime of the node: set endpoint in [host_runtime] to its socket',
    );
  }
  if (mount.recursive_read_only && (!mount.readonly || propagation !== 'private')) {
    throw invalid(`${field}.recursive_read_only`, `at ${containerPath} needs readonly and private propagation`);
  }
  return {
    containerPath,
    hostPath: absolute(mount.host_path, `${field}.host_path`),
    readonly: mount.readonly,
    selinuxRelabel: mount.selinux_relabel,
    propagation,
    recursiveReadonly: mount.recursive_read_only,
  };
}

export function parseMounts(mounts: readonly cri.Mount[]): readonly ContainerMount[] {
  return mounts.map((mount, index) => parseMount(mount, `config.mounts[${String(index)}]`));
}

export function parseDevices(devices: readonly cri.Device[]): readonly ContainerDevice[] {
  return devices.map((device, index) => {
    const field = `config.devices[${String(index)}]`;
    if (!/^[rwm]{0,3}$/.test(device.permissions)) {
      throw invalid(`${field}.permissions`, `"${device.permissions}" is not made of r, w and m`);
    }
    return {
      containerPath: absolute(device.container_path, `${field}.container_path`),
      hostPath: absolute(device.host_path, `${field}.host_path`),
      permissions: device.permissions,
    };
  });
}

/** The way back: ContainerStatus echoes the mounts, and the kubelet finds the termination message by them. */
export function shapeMount(
  mount: ContainerMount,
): Pick<
  cri.Mount,
  'container_path' | 'host_path' | 'readonly' | 'selinux_relabel' | 'propagation' | 'recursive_read_only'
> {
  const names = {
    private: 'PROPAGATION_PRIVATE',
    'host-to-container': 'PROPAGATION_HOST_TO_CONTAINER',
    bidirectional: 'PROPAGATION_BIDIRECTIONAL',
  } as const;
  return {
    container_path: mount.containerPath,
    host_path: mount.hostPath,
    readonly: mount.readonly,
    selinux_relabel: mount.selinuxRelabel,
    propagation: names[mount.propagation],
    recursive_read_only: mount.recursiveReadonly,
  };
}
