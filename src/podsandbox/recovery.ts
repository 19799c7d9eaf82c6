import { ContainerInfo_State, type ContainerInfo } from '../agent/gen/agent/v1/agent_pb.js';
import { messageOf } from '../platform/errors.ts';
import type { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { Log } from '../platform/log.ts';
import { abandonDisks } from './container-disks.ts';
import type { ContainerEnd } from './container-end.ts';
import type { PodNetworks, Vm, VmProvider } from './ports.ts';
import type { ContainerEntry, Registry, SandboxEntry } from './registry.ts';
import type { SandboxEnd } from './sandbox-end.ts';
import { absoluteLogPath } from './snapshots.ts';
import { unbindVolumes } from './volumes.ts';

/** A guest that does not answer by then is taken for hung: its pod is shown as it was recorded. */
const answerMs = 10_000;

export interface RecoveryOptions {
  readonly registry: Registry;
  readonly vms: VmProvider;
  readonly networks: PodNetworks;
  readonly containers: ContainerEnd;
  readonly sandboxes: SandboxEnd;
  readonly locks: KeyedMutex;
  readonly log: Log;
}

export interface RecoveryReport {
  readonly adopted: number;
  readonly died: number;
  readonly undone: number;
  readonly swept: number;
}

/**
 * Brings records and reality together before the daemon answers anybody. It assumes:
 *  1. No other daemon works on the same root; nothing changes but by the guests' own doing.
 *  2. A sandbox "creating" was never promised to anybody: it is undone.
 *  3. A sandbox "ending" was given up: its end is completed, in the background.
 *  4. A sandbox "ready" whose VM answers goes on; one whose VM is gone becomes NOTREADY, its
 *     containers EXITED.
 *  5. What a container wrote meanwhile waits in its guest and is replayed by its output pump.
 *  6. Everything of ours that no record owns is left over and deleted.
 */
export async function recover(options: RecoveryOptions): Promise<RecoveryReport> {
  const { registry, vms, networks } = options;
  await registry.load();
  const report = { adopted: 0, died: 0, undone: 0, swept: 0 };
  await Promise.all(
    registry.sandboxes().map(async (entry) => {
      const outcome = await recoverSandbox(options, entry).catch((error: unknown) => giveUp(options, entry, error));
      if (outcome !== undefined) report[outcome] += 1;
    }),
  );
  const owned = new Set(registry.sandboxes().flatMap(({ record }) => (record.phase === 'ended' ? [] : [record.vmId])));
  // Of VMs that are to be swept: plugins find in the namespace what they have to undo on the host.
  await networks.detachOthers(new Set(registry.sandboxes().map(({ record }) => record.id)));
  report.swept = (await vms.sweep(owned)).length;
  return report;
}

type Outcome = 'adopted' | 'died' | 'undone' | undefined;

/** What cannot be recovered must be seen, and StopPodSandbox and RemovePodSandbox must reach it. */
async function giveUp({ registry, log }: RecoveryOptions, entry: SandboxEntry, error: unknown): Promise<Outcome> {
  const { id } = entry.record;
  log.error({ sandboxId: id, err: error }, 'cannot recover a pod sandbox');
  await registry.updateSandbox(id, { phase: 'ending', reason: `cannot be recovered: ${messageOf(error)}` });
  return 'died';
}

async function recoverSandbox(options: RecoveryOptions, entry: SandboxEntry): Promise<Outcome> {
  const { registry, vms, networks, sandboxes, locks, log } = options;
  const { id, phase, vmId, netns } = entry.record;
  switch (phase) {
    case 'ended':
      return undefined;
    case 'creating': {
      await networks.detach(id, netns);
      if (vmId !== '') await (await vms.adopt(vmId))?.destroy();
      for (const container of entry.containers) await registry.removeContainer(container.record.id);
      await registry.removeSandbox(id);
      return 'undone';
    }
    case 'ending':
      void locks
        .run(id, () => sandboxes.end(entry, ''))
        .catch((error: unknown) => {
          log.error(
            { sandboxId: id, err: error },
            'cannot finish the end of a pod sandbox; StopPodSandbox will try again',
          );
        });
      return undefined;
    case 'ready': {
      // Plugins find in the namespace what they have to undo on the host, so CNI DEL comes before its removal.
      const vm = await vms.adopt(vmId, () => networks.detach(id, netns));
      if (vm === undefined) {
        await locks.run(id, () => sandboxes.end(entry, 'the virtual machine was gone when the daemon started'));
        return 'died';
      }
      entry.vm = vm;
      sandboxes.watch(entry, (work) => locks.run(id, work));
      await recoverContainers(options, entry, vm);
      return 'adopted';
    }
  }
}

/** Asks the guest what it has. One that takes long is waited for in the background, its pod shown as recorded. */
async function recoverContainers(options: RecoveryOptions, entry: SandboxEntry, vm: Vm): Promise<void> {
  const { locks, log } = options;
  const { id } = entry.record;
  const patience = AbortSignal.timeout(answerMs);
  try {
    await compareWithGuest(options, entry, vm, patience);
  } catch (error) {
    if (!patience.aborted) throw error;
    log.warn(
      { sandboxId: id, reason: messageOf(error) },
      'a guest does not answer; its containers are shown as recorded',
    );
    void locks
      .run(id, () => (entry.vm === vm ? compareWithGuest(options, entry, vm) : Promise.resolve()))
      .catch((failure: unknown) => {
        log.error({ sandboxId: id, err: failure }, 'a guest does not say which containers it has');
      });
  }
}

async function compareWithGuest(
  options: RecoveryOptions,
  entry: SandboxEntry,
  vm: Vm,
  signal?: AbortSignal,
): Promise<void> {
  const { registry, log } = options;
  const known = await vm.agent.listContainers(signal);
  const each = async (containerId: string, work: () => Promise<void>): Promise<void> => {
    // One container that cannot be recovered must not keep the others from it.
    await work().catch((error: unknown) => {
      log.error(
        { sandboxId: entry.record.id, containerId, err: error },
        'cannot recover a container; it is shown as recorded',
      );
    });
  };
  for (const container of entry.containers) {
    const info = known.find(({ id }) => id === container.record.id);
    await each(container.record.id, () => recoverContainer(options, container, vm, info));
  }
  // The agent made it, the daemon died before it could say so to anybody.
  for (const { id } of known) {
    if (registry.findContainer(id) === undefined) await each(id, () => vm.agent.removeContainer(id));
  }
}

async function recoverContainer(
  options: RecoveryOptions,
  container: ContainerEntry,
  vm: Vm,
  info: ContainerInfo | undefined,
): Promise<void> {
  const { registry, containers } = options;
  const { id, phase } = container.record;
  if (phase === 'creating') {
    await vm.agent.removeContainer(id);
    await unbindVolumes(vm.share, id);
    await abandonDisks(container.sandbox, vm, container);
    await registry.removeContainer(id);
    return;
  }
  if (phase === 'exited') return;
  if (info === undefined) {
    await containers.lost(container, 'the guest no longer knows this container');
    return;
  }
  if (phase === 'created') {
    if (info.state === ContainerInfo_State.CREATED) return;
    // StartContainer took effect in the guest, and the daemon died before it recorded that.
    await registry.updateContainer(id, { phase: 'running', startedAt: info.startedAtNs });
  }
  containers.watch(container, absoluteLogPath(container));
}
