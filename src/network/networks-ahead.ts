import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { together } from '../platform/together.ts';
import type { StepTrace } from './cni/chain.ts';
import type { AttachedNetwork, AttachRequest, CniPodNetworks, PodNetworksState } from './pod-networks.ts';
import { ReservedIds } from './reserved-ids.ts';

export interface NetworksAheadOptions {
  readonly networks: CniPodNetworks;
  /** Must survive the host. */
  readonly reservedDir: string;
  readonly log: Log;
  /** Between two tries to give back what could not be given back. */
  readonly retryMs?: number;
  readonly now?: () => number;
}

/** A plugin that takes longer must not hold up the pool; the pod's own ADD may. */
const attachMs = 15_000;
/** The daemon has to end, and a machine to go, also when a plugin hangs. What is not done by then goes on or is tried again. */
const giveBackMs = 2_000;
/** What died daemons have left is given back before machines are swept. */
const recoverMs = 10_000;
/** A pod found no address: for so long those that wait for nobody are not taken. */
const pauseMs = 5 * 60_000;
/** As host-local says it. */
const exhausted = /no (free )?IP addresses? (are )?available/i;

/** Pods' networks, some of which are made before their pods, for machines that wait in pools. */
export class NetworksAhead {
  readonly #networks: CniPodNetworks;
  readonly #reserved: ReservedIds;
  readonly #log: Log;
  readonly #retryMs: number;
  readonly #now: () => number;
  /** Ids of pods that there will never be, whose attachments could not be undone yet. */
  readonly #owed = new Set<string>();
  #retrying: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pausedUntil = 0;

  constructor({ networks, reservedDir, log, retryMs = 5_000, now = () => performance.now() }: NetworksAheadOptions) {
    this.#networks = networks;
    this.#reserved = new ReservedIds(reservedDir);
    this.#log = log;
    this.#retryMs = retryMs;
    this.#now = now;
  }

  async start(): Promise<void> {
    await this.#reserved.open();
    this.#timer = setInterval(() => {
      this.#retrying ??= this.#retry().finally(() => {
        this.#retrying = undefined;
      });
    }, this.#retryMs).unref();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#owed.clear();
    await this.#retrying;
  }

  // ---------------------------------------------------------------- for pods

  state(): PodNetworksState {
    return this.#networks.state();
  }

  setPodCidrs(cidrs: readonly string[]): void {
    this.#networks.setPodCidrs(cidrs);
  }

  /** As `CniPodNetworks.attach`; a network that was made ahead with this id is the pod's from now on. */
  async attach(request: AttachRequest, signal: AbortSignal, trace?: StepTrace): Promise<AttachedNetwork> {
    try {
      const stop = new AbortController();
      const [network] = await together<[AttachedNetwork, unknown]>(stop, [
        this.#networks.attach(request, AbortSignal.any([signal, stop.signal]), trace),
        // There is a record of the pod, which tells that id from now on.
        this.#reserved.remove(request.sandboxId),
      ]);
      return network;
    } catch (error) {
      if (exhausted.test(messageOf(error))) this.#pause();
      throw error;
    }
  }

  async detach(sandboxId: string, netns: string): Promise<void> {
    await this.#networks.detach(sandboxId, netns);
  }

  /** Undoes the attachments of all sandboxes but these. What cannot be undone is logged and tried again. */
  async detachOthers(known: ReadonlySet<string>): Promise<void> {
    const all = new Set([...(await this.#networks.attachedIds()), ...(await this.#reserved.all())]);
    const others = [...all].filter((id) => !known.has(id));
    await Promise.all(others.map((id) => this.#within(recoverMs, id, '')));
    await Promise.all([...all].filter((id) => known.has(id)).map((id) => this.#reserved.remove(id)));
  }

  // ---------------------------------------------------------------- for pools

  /**
   * What a network made ahead is like now: those made at an equal version are alike. Empty: none is to be made.
   * Undefined: that cannot be told at the moment.
   */
  get version(): string | undefined {
    return this.#now() < this.#pausedUntil ? '' : this.#networks.aheadVersion;
  }

  /** Makes the network of a pod that will have this id. Whether or not it fails, `attach` or `giveBack` has to follow. */
  async make(podId: string, netns: string, signal: AbortSignal): Promise<void> {
    await this.#reserved.add(podId);
    await this.#networks.attachAhead(podId, netns, AbortSignal.any([signal, AbortSignal.timeout(attachMs)]));
  }

  /** There will be no pod with this id. Never rejects: what cannot be undone is logged and tried again. */
  async giveBack(podId: string, netns: string): Promise<void> {
    await this.#within(giveBackMs, podId, netns);
  }

  #pause(): void {
    if (this.#now() >= this.#pausedUntil)
      this.#log.warn(
        'a pod found no address: machines of the pools give theirs back, and wait without for some minutes',
      );
    this.#pausedUntil = this.#now() + pauseMs;
  }

  async #within(ms: number, id: string, netns: string): Promise<void> {
    const enough = new AbortController();
    await Promise.race([
      this.#undo(id, netns).catch((error: unknown) => {
        this.#owed.add(id);
        this.#log.error({ podId: id, err: error }, `network left behind, to be tried again: ${messageOf(error)}`);
      }),
      delay(ms, undefined, { signal: enough.signal }).catch(() => undefined),
    ]);
    enough.abort();
  }

  async #undo(id: string, netns: string): Promise<void> {
    // Without a configuration or a record of the attachment nobody knows how, until there is one again.
    if (await this.#networks.detach(id, netns)) await this.#reserved.remove(id);
    else this.#owed.add(id);
  }

  async #retry(): Promise<void> {
    for (const id of [...this.#owed]) {
      try {
        if (!(await this.#networks.detach(id, ''))) continue;
        await this.#reserved.remove(id);
        this.#owed.delete(id);
      } catch (error) {
        this.#log.debug({ podId: id, err: error }, `network still left behind: ${messageOf(error)}`);
      }
    }
  }
}
