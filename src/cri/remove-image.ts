import type { UnaryHandler } from './call.ts';
import type { RemoveImageRequest, RemoveImageResponse } from './gen/cri-types.ts';
import { parseImage } from './parse-container-config.ts';
import type { CriServices } from './services.ts';

/** Absent images are fine. */
export function removeImage({ images }: CriServices): UnaryHandler<RemoveImageRequest, RemoveImageResponse> {
  return async (request) => {
    await images.remove(parseImage(request.image, 'image'));
    return {};
  };
}
