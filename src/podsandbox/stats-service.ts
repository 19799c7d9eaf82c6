import { setTimeout as delay } from 'node:timers/promises';
import type { StatsResponse } from '../agent/gen/agent/v1/agent_pb.js';
import { messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { nowNs } from './container-end.ts';
import { CpuRates } from './cpu-rates.ts';
import type { SandboxId } from './ids.ts';
import type { Vm } from './ports.ts';
import type { ContainerEntry, Registry, SandboxEntry } from './registry.ts';
import { containerSnapshot, sandboxSnapshot } from './snapshots.ts';
import type { ContainerStats, PodStats, SandboxStats } from './stats-model.ts';

/** How long an answer waits for guests. */
const patienceMs = 800;
/** A guest that has not answered by then is asked anew. */
const lostMs = 10_000;
/** For so long an earlier answer stands in for a guest that does not answer in time; its figures say how old they are. */
const staleNs = 30_000_000_000n;

interface GuestAnswer {
  /** Between these two the guest has read its figures; nanoseconds since the epoch. */
  readonly askedAt: bigint;
  readonly answeredAt: bigint;
  readonly response: StatsResponse;
}

/** Resource use: of pods from the host's accounts, of containers from their guests, one question for each pod. */
export class StatsService implements PodStats {
  readonly #registry: Registry;
  readonly #log: Log;
  readonly #rates = new CpuRates<SandboxEntry | ContainerEntry>();
  /** Questions under way, so that a guest that hangs is asked once and not with every call. */
  readonly #asked = new WeakMap<Vm, Map<boolean, Promise<GuestAnswer | undefined>>>();
  readonly #answers = new WeakMap<Vm, GuestAnswer>();

  constructor(registry: Registry, log: Log) {
    this.#registry = registry;
    this.#log = log;
  }

  async of(sandboxes: readonly SandboxId[], descriptors = false): Promise<readonly SandboxStats[]> {
    const waiting = new AbortController();
    const patience = delay(patienceMs, undefined, { signal: waiting.signal }).catch(() => undefined);
    try {
      const found = await Promise.all(sandboxes.map((id) => this.#ofOne(id, descriptors, patience)));
      return found.filter((stats) => stats !== undefined);
    } finally {
      waiting.abort();
    }
  }

  /** Undefined when there is nothing to tell: it is not ready, or its VM ends right now. */
  async #ofOne(id: SandboxId, descriptors: boolean, patience: Promise<undefined>): Promise<SandboxStats | undefined> {
    const entry = this.#registry.findSandbox(id);
    const vm = entry?.vm;
    if (entry?.record.phase !== 'ready' || vm === undefined) return undefined;
    const answering = Promise.race([this.#ask(vm, descriptors), patience]);
    try {
      const [usage, inTime] = await Promise.all([vm.usage(), answering]);
      const answer = inTime ?? this.#earlierAnswer(vm);
      return {
        sandbox: sandboxSnapshot(entry),
        usage,
        nanoCores: usage.cpuNs === undefined ? undefined : this.#rates.next(entry, usage.at, usage.cpuNs),
        answered: inTime !== undefined,
        containers: answer === undefined ? [] : this.#ofContainers(entry, answer),
        scratch: answer?.response.scratch,
      };
    } catch (error) {
      this.#log.debug({ sandboxId: id, err: error }, 'no statistics of a pod sandbox');
      return undefined;
    }
  }

  /** Undefined when the guest cannot be asked. Never rejects. */
  #ask(vm: Vm, descriptors: boolean): Promise<GuestAnswer | undefined> {
    const asked = this.#asked.get(vm) ?? new Map<boolean, Promise<GuestAnswer | undefined>>();
    this.#asked.set(vm, asked);
    const running = asked.get(descriptors);
    if (running !== undefined) return running;
    const ask = async (): Promise<GuestAnswer | undefined> => {
      const askedAt = nowNs();
      try {
        const response = await vm.agent.stats(descriptors, AbortSignal.timeout(lostMs));
        const found = { askedAt, answeredAt: nowNs(), response };
        this.#answers.set(vm, found);
        return found;
      } catch (error) {
        this.#log.warn({ vmId: vm.id, reason: messageOf(error) }, 'a guest does not tell what its containers use');
        return undefined;
      } finally {
        asked.delete(descriptors);
      }
    };
    const answer = ask();
    asked.set(descriptors, answer);
    return answer;
  }

  #earlierAnswer(vm: Vm): GuestAnswer | undefined {
    const last = this.#answers.get(vm);
    return last !== undefined && nowNs() - last.answeredAt < staleNs ? last : undefined;
  }

  #ofContainers(sandbox: SandboxEntry, { askedAt, answeredAt, response }: GuestAnswer): ContainerStats[] {
    // The guest's clock tells best when it looked, as long as it tells the truth.
    const at = response.timeNs < askedAt ? askedAt : response.timeNs > answeredAt ? answeredAt : response.timeNs;
    return response.containers.flatMap((figures) => {
      const entry = this.#registry.findContainer(figures.id);
      if (entry?.sandbox !== sandbox || entry.record.phase === 'creating') return [];
      const nanoCores = this.#rates.next(entry, at, figures.cpu?.usageNs ?? 0n);
      return [{ container: containerSnapshot(entry), at, figures, nanoCores }];
    });
  }
}
