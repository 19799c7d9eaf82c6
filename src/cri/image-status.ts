import type { UnaryHandler } from './call.ts';
import type { ImageStatusRequest, ImageStatusResponse } from './gen/cri-types.ts';
import { parseImage } from './parse-container-config.ts';
import type { CriServices } from './services.ts';
import { shapeImage } from './shape-image.ts';
import { verboseInfo } from './verbose-info.ts';

/** An image that is not there is an answer without an image, not an error. */
export function imageStatus({ images }: CriServices): UnaryHandler<ImageStatusRequest, ImageStatusResponse> {
  return async (request) => {
    const image = images.find(parseImage(request.image, 'image'));
    if (image === undefined) return {};
    return {
      image: shapeImage(image),
      info: request.verbose ? verboseInfo({ info: { imageSpec: image.spec } }) : {},
    };
  };
}
