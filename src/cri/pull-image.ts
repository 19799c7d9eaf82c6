import type { RegistryAuth } from '../podsandbox/ports.ts';
import type { UnaryHandler } from './call.ts';
import type { AuthConfig, PullImageRequest, PullImageResponse } from './gen/cri-types.ts';
import { parseImage } from './parse-container-config.ts';
import type { CriServices } from './services.ts';

/** Undefined for an anonymous pull, also when every field is empty. */
export function parseAuth(auth: AuthConfig | null): RegistryAuth | undefined {
  if (auth === null) return undefined;
  const parsed: RegistryAuth = {
    username: auth.username,
    password: auth.password,
    auth: auth.auth,
    serverAddress: auth.server_address,
    identityToken: auth.identity_token,
    registryToken: auth.registry_token,
  };
  const { serverAddress: _, ...credentials } = parsed;
  return Object.values(credentials).some((value) => value !== '') ? parsed : undefined;
}

export function pullImage({ images }: CriServices): UnaryHandler<PullImageRequest, PullImageResponse> {
  return async (request, { signal }) => ({
    image_ref: await images.pull(parseImage(request.image, 'image'), parseAuth(request.auth), signal),
  });
}
