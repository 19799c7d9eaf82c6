import type { Image } from '../podsandbox/ports.ts';
import { batches } from './batches.ts';
import type { StreamHandler, UnaryHandler } from './call.ts';
import type {
  ImageFilter,
  ListImagesRequest,
  ListImagesResponse,
  StreamImagesRequest,
  StreamImagesResponse,
} from './gen/cri-types.ts';
import type { CriServices } from './services.ts';
import { shapeImage } from './shape-image.ts';

function matching({ images }: CriServices, filter: ImageFilter | null): readonly Image[] {
  const name = filter?.image?.image ?? '';
  if (name === '') return images.list();
  const image = images.find(name);
  return image === undefined ? [] : [image];
}

export function listImages(services: CriServices): UnaryHandler<ListImagesRequest, ListImagesResponse> {
  return async ({ filter }) => ({ images: matching(services, filter).map(shapeImage) });
}

export function streamImages(services: CriServices): StreamHandler<StreamImagesRequest, StreamImagesResponse> {
  return async function* ({ filter }) {
    for (const batch of batches(matching(services, filter))) yield { images: batch.map(shapeImage) };
  };
}
