import type { UnaryHandler } from './call.ts';
import type { ImageFsInfoRequest, ImageFsInfoResponse } from './gen/cri-types.ts';
import type { CriServices } from './services.ts';

/** Writable layers are disks beside the images, on the same file system. */
export function imageFsInfo({ images }: CriServices): UnaryHandler<ImageFsInfoRequest, ImageFsInfoResponse> {
  return async () => {
    const { mountpoint, usedBytes, inodesUsed, at } = await images.fsInfo();
    const usage = {
      timestamp: String(BigInt(at.getTime()) * 1_000_000n),
      fs_id: { mountpoint },
      used_bytes: { value: String(usedBytes) },
      inodes_used: { value: String(inodesUsed) },
    };
    return { image_filesystems: [usage], container_filesystems: [usage] };
  };
}
