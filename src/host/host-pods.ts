import { AppError } from '../platform/errors.ts';
import type { HostConnection } from './connection.ts';
import type { KnownPods, KnownPodsFile } from './known-pods.ts';
import { ownerLabel, publicId } from './marks.ts';

/** A pod by the id our clients know and the one the host runtime knows; mostly the same. */
export interface HostPod {
  readonly id: string;
  readonly hostId: string;
}

/** Longest list of pods and containers that events may still come of after they are gone. */
const maxRemembered = 4096;

/** Which pods and containers of the host runtime are ours. */
export class HostPods {
  readonly #connection: HostConnection;
  readonly #owner: string;
  readonly #file: KnownPodsFile;
  #known: KnownPods = { sandboxes: [], containers: [] };
  /** Lists overtake each other: only one that was asked for later replaces what is known. */
  #asked = 0;
  #applied = 0;
  /** Ids that are or were ours, and what our clients call them; oldest first. */
  readonly #remembered = new Map<string, string>();

  constructor(connection: HostConnection, owner: string, file: KnownPodsFile) {
    this.#connection = connection;
    this.#owner = owner;
    this.#file = file;
  }

  async load(): Promise<void> {
    this.#replace(await this.#file.load());
  }

  /** As it is now, or `unavailable`. */
  async fresh(): Promise<KnownPods> {
    this.#asked += 1;
    const turn = this.#asked;
    const filter = { label_selector: ownerLabel(this.#owner) };
    // Containers first: each one's pod is then in the list of pods, unless it is on its way out.
    const { containers } = await this.#connection.ask('ListContainers', { filter });
    const { items: sandboxes } = await this.#connection.ask('ListPodSandbox', { filter });
    const pods = { sandboxes, containers };
    if (turn > this.#applied) {
      this.#applied = turn;
      this.#replace(pods);
      this.#file.save(pods);
    }
    return pods;
  }

  /**
   * As it is now; while the host runtime is down, as it was when it last answered. Never without them: a
   * kubelet would take a pod that is not listed for gone, and start it a second time.
   */
  async list(): Promise<KnownPods> {
    try {
      return await this.fresh();
    } catch (error) {
      if (error instanceof AppError && error.kind === 'unavailable') return this.#known;
      throw error;
    }
  }

  /** The pod whose id starts with `prefix`; `unavailable` when that cannot be told at the moment. */
  async findSandbox(prefix: string): Promise<HostPod | undefined> {
    const find = ({ sandboxes }: KnownPods): HostPod | undefined => {
      const id = unique(
        prefix,
        sandboxes.map((sandbox) => publicId(sandbox)),
        'pod sandbox',
      );
      const sandbox = sandboxes.find((candidate) => publicId(candidate) === id);
      return sandbox === undefined ? undefined : { id: publicId(sandbox), hostId: sandbox.id };
    };
    return this.#find(prefix, find);
  }

  async findContainer(prefix: string): Promise<string | undefined> {
    return this.#find(prefix, ({ containers }) =>
      unique(
        prefix,
        containers.map(({ id }) => id),
        'container',
      ),
    );
  }

  /** What our clients call a pod or container that is or was ours; undefined for those of others. */
  nameOf(hostId: string): string | undefined {
    return this.#remembered.get(hostId);
  }

  async #find<T>(prefix: string, find: (pods: KnownPods) => T | undefined): Promise<T | undefined> {
    const whole = prefix.length === 64 ? find(this.#known) : undefined;
    return whole ?? find(await this.fresh());
  }

  #replace(pods: KnownPods): void {
    this.#known = pods;
    for (const sandbox of pods.sandboxes) this.remember(sandbox.id, publicId(sandbox));
    for (const { id } of pods.containers) this.remember(id, id);
  }

  remember(hostId: string, id: string): void {
    this.#remembered.delete(hostId);
    this.#remembered.set(hostId, id);
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= maxRemembered) break;
      this.#remembered.delete(oldest);
    }
  }
}

function unique(prefix: string, ids: readonly string[], what: string): string | undefined {
  const found = ids.filter((id) => id.startsWith(prefix));
  if (found.length > 1 && !found.includes(prefix)) {
    throw new AppError('invalid', `${what} id "${prefix}" is ambiguous: ${String(found.length)} start with it`);
  }
  return found.includes(prefix) ? prefix : found[0];
}
