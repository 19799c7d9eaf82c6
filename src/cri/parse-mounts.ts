import type { ContainerDevice, ContainerMount, MountImage } from '../podsandbox/model.ts';
import type { Outgoing } from './call.ts';
import { absolute, enumValue, invalid, plain, stringMap, unsupported } from './fields.ts';
import type * as cri from './gen/cri-types.ts';
import { parseIdMappings, shapeIdMappings } from './parse-user-namespace.ts';

const propagations = {
  PROPAGATION_PRIVATE: 'private',
  PROPAGATION_HOST_TO_CONTAINER: 'host-to-container',
  PROPAGATION_BIDIRECTIONAL: 'bidirectional',
} as const;

function parseMount(mount: cri.Mount, field: string): ContainerMount {
  const containerPath = absolute(mount.container_path, `${field}.container_path`);
  if (mount.mount_options.length > 0) {
    throw unsupported(
      `${field}.mount_options`,
      `${mount.mount_options.join(',')} at ${containerPath} is not supported in this version`,
    );
  }
  const propagation = enumValue(mount.propagation, propagations, `${field}.propagation`);
  if (mount.recursive_read_only && (!mount.readonly || propagation !== 'private')) {
    throw invalid(`${field}.recursive_read_only`, `at ${containerPath} needs readonly and private propagation`);
  }
  if (propagation === 'bidirectional') {
    throw unsupported(
      `${field}.propagation`,
      `mounts made at ${containerPath} in a virtual machine cannot appear on the host (bidirectional); such pods ` +
        'go to another CRI runtime of the node: set endpoint in [host_runtime] to its socket',
    );
  }
  const image = parseMountImage(mount, field);
  const owners = parseIdMappings(mount.uidMappings, mount.gidMappings, [
    `${field}.uidMappings`,
    `${field}.gidMappings`,
  ]);
  return {
    containerPath,
    hostPath: image === undefined ? absolute(mount.host_path, `${field}.host_path`) : '',
    ...(image === undefined ? {} : { image }),
    readonly: mount.readonly,
    selinuxRelabel: mount.selinux_relabel,
    propagation,
    recursiveReadonly: mount.recursive_read_only,
    ...(owners === undefined ? {} : { owners }),
  };
}

function parseMountImage(mount: cri.Mount, field: string): MountImage | undefined {
  const { image, image_sub_path: subPath } = mount;
  if (image === null || image.image === '') {
    if (subPath !== '') throw invalid(`${field}.image_sub_path`, `"${subPath}" is given without an image`);
    return undefined;
  }
  if (mount.host_path !== '') throw invalid(`${field}.host_path`, `"${mount.host_path}" and an image are both given`);
  if (!mount.readonly) throw invalid(`${field}.readonly`, `is false, but image "${image.image}" can only be read`);
  if (subPath.startsWith('/') || subPath.split('/').includes('..')) {
    throw invalid(`${field}.image_sub_path`, `"${subPath}" does not stay in the image`);
  }
  return {
    reference: plain(image.image, `${field}.image.image`),
    userSpecified: image.user_specified_image,
    annotations: stringMap(image.annotations),
    subPath: plain(subPath, `${field}.image_sub_path`),
    id: '',
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

/** A device by its name in the Container Device Interface: vendor/class=name. */
export function parseCdiName(name: string, field: string): string {
  if (!/^[^/=\0]+\/[^/=\0]+=[^/=\0]+$/.test(name))
    throw invalid(field, `"${name}" is not of the form vendor/class=name`);
  return name;
}

/** The way back: ContainerStatus echoes the mounts, and the kubelet finds the termination message by them. */
export function shapeMount(mount: ContainerMount): Outgoing<cri.Mount> {
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
    uidMappings: shapeIdMappings(mount.owners?.uids ?? []),
    gidMappings: shapeIdMappings(mount.owners?.gids ?? []),
    image: mount.image === undefined ? null : shapeMountImage(mount.image),
    image_sub_path: mount.image?.subPath ?? '',
  };
}

/** The kubelet's image collection compares `image` with the ids of images. */
function shapeMountImage({ id, userSpecified, annotations }: MountImage): Outgoing<cri.ImageSpec> {
  return { image: id, user_specified_image: userSpecified, annotations, image_ref: id };
}
