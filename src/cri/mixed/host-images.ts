import { AppError, ForeignError, messageOf } from '../../platform/errors.ts';
import type { CallContext } from '../call.ts';
import type * as cri from '../gen/cri-types.ts';
import type { CriServices } from '../services.ts';
import type { HostRuntime } from './host-runtime.ts';

/**
 * Copies of images in the host runtime. Ours is the list that clients see: every image that a host pod uses
 * is here too, and both runtimes call it by the digest of its configuration. No credentials are kept:
 * an image that cannot be pulled there without counts as absent until a client pulls it again.
 */
export class HostImages {
  readonly #services: Pick<CriServices, 'images'>;
  readonly #host: HostRuntime;
  /** Ids of images that a host pod wants and the host runtime could not get. */
  readonly #wanted = new Set<string>();

  constructor(services: Pick<CriServices, 'images'>, host: HostRuntime) {
    this.#services = services;
    this.#host = host;
  }

  /** Whether a client has to pull an image again, with its credentials. */
  isWanted(id: string): boolean {
    return this.#wanted.has(id);
  }

  /** PullImage there. */
  async pull(request: cri.PullImageRequest, { signal }: CallContext): Promise<string> {
    const { image, auth, sandbox_config } = request;
    const handler = this.#host.handlers.get(image?.runtime_handler ?? '') ?? '';
    const { image_ref: id } = await this.#host.call(
      'PullImage',
      { image: { ...image, runtime_handler: handler }, ...(auth === null ? {} : { auth }), sandbox_config },
      signal,
    );
    this.#wanted.delete(id);
    return id;
  }

  /** The image of a container as the host runtime finds it; pulled when it is not there yet. */
  async ensure(
    spec: cri.ImageSpec,
    sandboxConfig: cri.PodSandboxConfig | null,
    call: CallContext,
  ): Promise<cri.ImageSpec> {
    const own = this.#services.images.find(spec.image);
    if (own === undefined) throw new AppError('not-found', `no image "${spec.image}"`);
    if (await this.#has(own.id, call)) return { ...spec, image: own.id };
    const source = own.repoDigests[0] ?? own.repoTags[0];
    if (source === undefined) {
      throw new AppError('failed-precondition', `image ${own.id} has no name by which the host runtime could pull it`);
    }
    call.log.info({ image: source }, 'pulling an image into the host runtime');
    try {
      const image = { ...spec, image: source };
      const id = await this.pull({ image, auth: null, sandbox_config: sandboxConfig }, call);
      return { ...spec, image: id };
    } catch (error) {
      if (!(error instanceof ForeignError)) throw error;
      this.#wanted.add(own.id);
      throw new ForeignError(
        error.code,
        `image "${source}" is not in the host runtime and could not be pulled there without credentials ` +
          `(pull it again for this pod): ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  /** Removes the copy. What that runtime itself needs, its sandbox image, stays. */
  async remove(id: string, { signal }: CallContext): Promise<void> {
    const { image } = await this.#host.call('ImageStatus', { image: { image: id } }, signal);
    if (image !== null && !image.pinned) await this.#host.call('RemoveImage', { image: { image: id } }, signal);
    this.#wanted.delete(id);
  }

  async #has(id: string, { signal }: CallContext): Promise<boolean> {
    return (await this.#host.call('ImageStatus', { image: { image: id } }, signal)).image !== null;
  }
}
