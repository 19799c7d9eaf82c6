import { AppError } from '../../platform/errors.ts';
import type { CriServices } from '../services.ts';
import type { HostPod, HostRuntime } from './host-runtime.ts';

/** Bytes of a whole id, of either runtime. */
const wholeId = 64;

/** Whose a pod or container is: ours, or the host runtime's. */
export type Owner<Id, HostId> = { readonly own: Id } | { readonly host: HostId } | undefined;

/** Resolves ids and their prefixes over both runtimes. */
export class Owners {
  readonly #services: Pick<CriServices, 'sandboxes' | 'containers'>;
  readonly #host: HostRuntime;

  constructor(services: Pick<CriServices, 'sandboxes' | 'containers'>, host: HostRuntime) {
    this.#services = services;
    this.#host = host;
  }

  /** Undefined: nobody's. `invalid` when several begin with it, `unavailable` when the other one cannot be asked. */
  async sandbox(prefix: string): Promise<Owner<string, HostPod>> {
    return resolve(prefix, 'pod sandbox', this.#services.sandboxes.resolve(prefix), () =>
      this.#host.findSandbox(prefix),
    );
  }

  async container(prefix: string): Promise<Owner<string, string>> {
    return resolve(prefix, 'container', this.#services.containers.resolve(prefix), () =>
      this.#host.findContainer(prefix),
    );
  }
}

async function resolve<Id, HostId>(
  prefix: string,
  what: string,
  own: Id | undefined,
  findHost: () => Promise<HostId | undefined>,
): Promise<Owner<Id, HostId>> {
  // A whole id of ours is never asked for elsewhere: our pods do not wait for the other runtime.
  if (own !== undefined && prefix.length === wholeId) return { own };
  const host = await findHost();
  if (own !== undefined && host !== undefined) {
    throw new AppError('invalid', `${what} id "${prefix}" is ambiguous: pods of both runtimes start with it`);
  }
  if (own !== undefined) return { own };
  return host === undefined ? undefined : { host };
}
