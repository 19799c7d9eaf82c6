import type { FileSystemUsage } from '../podsandbox/ports.ts';
import type { Outgoing, UnaryHandler } from './call.ts';
import type { FilesystemUsage, ImageFsInfoRequest, ImageFsInfoResponse } from './gen/cri-types.ts';
import type { CriServices } from './services.ts';

/** Writable layers are disks beside the images, on the same file system. */
export function imageFsInfo({ images }: CriServices): UnaryHandler<ImageFsInfoRequest, ImageFsInfoResponse> {
  return async () => {
    const { mountpoint, at, ...usage } = await images.fsInfo();
    const shape = ({ usedBytes, inodesUsed }: FileSystemUsage): Outgoing<FilesystemUsage> => ({
      timestamp: String(BigInt(at.getTime()) * 1_000_000n),
      fs_id: { mountpoint },
      used_bytes: { value: String(usedBytes) },
      inodes_used: { value: String(inodesUsed) },
    });
    return { image_filesystems: [shape(usage.images)], container_filesystems: [shape(usage.containers)] };
  };
}
