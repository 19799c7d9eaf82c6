import { AppError, messageOf } from '../platform/errors.ts';
import type { ContainerConfig, ContainerMount } from './model.ts';
import type { Images } from './ports.ts';

/** How messages begin that the kubelet shows as the reason of a container that waits for its image volume. */
const mountFailed = 'ImageVolumeMountFailed';

/** Says which image each image volume is; each has to be present. */
export function resolveImageVolumes(config: ContainerConfig, images: Images): ContainerConfig {
  const resolve = (mount: ContainerMount): ContainerMount => {
    if (mount.image === undefined) return mount;
    const found = images.find(mount.image.reference);
    if (found === undefined) {
      throw new AppError(
        'not-found',
        `${mountFailed}: image "${mount.image.reference}" of ${mount.containerPath} is not present; pull it first`,
      );
    }
    return { ...mount, image: { ...mount.image, id: found.id } };
  };
  return { ...config, mounts: config.mounts.map(resolve) };
}

/** The error with the word at its very beginning, when it is about an image volume. */
export function imageVolumeFailure(error: unknown): AppError | undefined {
  const message = messageOf(error);
  const at = message.indexOf(`${mountFailed}: `);
  if (at < 0) return undefined;
  return new AppError(error instanceof AppError ? error.kind : 'internal', message.slice(at), { cause: error });
}
