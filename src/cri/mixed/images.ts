import type { UnaryHandler } from '../call.ts';
import type * as cri from '../gen/cri-types.ts';
import type { CriServices } from '../services.ts';
import type { HostImages } from './host-images.ts';
import type { HostRuntime } from './host-runtime.ts';
import { wantsHost } from './wants-host.ts';

type Pull = UnaryHandler<cri.PullImageRequest, cri.PullImageResponse>;
type Remove = UnaryHandler<cri.RemoveImageRequest, cri.RemoveImageResponse>;
type Status = UnaryHandler<cri.ImageStatusRequest, cri.ImageStatusResponse>;
type FsInfo = UnaryHandler<cri.ImageFsInfoRequest, cri.ImageFsInfoResponse>;

/** Into ours always, and into the host runtime for its pods, while the credentials are at hand. */
export function pullImage(own: Pull, { images }: CriServices, host: HostRuntime, copies: HostImages): Pull {
  return async (request, call) => {
    const { image, sandbox_config: config } = request;
    const present = images.find(image?.image ?? '');
    const there =
      wantsHost(config, image?.runtime_handler ?? '', host.handlers) ||
      (present !== undefined && copies.isWanted(present.id));
    // The handler is the other runtime's business.
    const [response, id] = await Promise.all([own(request, call), there ? copies.pull(request, call) : undefined]);
    if (id !== undefined && id !== response.image_ref) {
      call.log.warn(
        { image: image?.image, own: response.image_ref, host: id },
        'the runtimes name an image differently',
      );
    }
    return response;
  };
}

/** An image that a host pod waits for is absent, so that the kubelet pulls it with the pod's credentials. */
export function imageStatus(own: Status, { images }: CriServices, copies: HostImages): Status {
  return async (request, call) => {
    const id = images.find(request.image?.image ?? '')?.id;
    return id !== undefined && copies.isWanted(id) ? {} : own(request, call);
  };
}

/** There first: when that fails, the kubelet sees the image still and tries again. */
export function removeImage(own: Remove, { images }: CriServices, copies: HostImages): Remove {
  return async (request, call) => {
    const id = images.find(request.image?.image ?? '')?.id;
    if (id !== undefined) await copies.remove(id, call);
    return own(request, call);
  };
}

/** Ours first: the kubelet looks at the first one only. */
export function imageFsInfo(own: FsInfo, host: HostRuntime): FsInfo {
  return async (request, call) => {
    const [ours, theirs] = await Promise.all([own(request, call), host.fileSystems()]);
    return {
      image_filesystems: [...(ours.image_filesystems ?? []), ...(theirs?.image_filesystems ?? [])],
      container_filesystems: [...(ours.container_filesystems ?? []), ...(theirs?.container_filesystems ?? [])],
    };
  };
}
