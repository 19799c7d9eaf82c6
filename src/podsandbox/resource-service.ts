import { AppError, wrap } from '../platform/errors.ts';
import type { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { ContainerId, SandboxId } from './ids.ts';
import type { LinuxResources, ResourceUpdates, SandboxResources } from './model.ts';
import type { Registry } from './registry.ts';
import { hostLimits } from './host-limits.ts';
import { guestResources, mergeResources, refuseBeyondVm, refuseHugePages } from './resources.ts';

/**
 * New limits for what exists. They hold in the guest before they are recorded: a daemon that dies in
 * between shows the old ones, and the kubelet, who sees a difference, asks again.
 */
export class ResourceService implements ResourceUpdates {
  readonly #registry: Registry;
  readonly #locks: KeyedMutex;

  /** One lock per sandbox id, shared with the other services. */
  constructor(registry: Registry, locks: KeyedMutex) {
    this.#registry = registry;
    this.#locks = locks;
  }

  async container(id: ContainerId, change: LinuxResources, signal: AbortSignal): Promise<void> {
    const { sandboxId, config } = this.#registry.container(id).record;
    try {
      refuseHugePages(change);
      await this.#locks.run(sandboxId, async () => {
        const { record, sandbox } = this.#registry.container(id);
        const resources = mergeResources(record.resources, change);
        if (record.phase !== 'exited') {
          const { vm } = sandbox;
          if (vm === undefined) throw new AppError('failed-precondition', `pod sandbox "${sandboxId}" is not ready`);
          refuseBeyondVm(vm.size, record.resources, resources);
          const request = { id, resources: guestResources(resources), oomScoreAdj: resources.oomScoreAdj };
          await vm.agent.updateContainer(request, signal);
        }
        await this.#registry.setContainerResources(id, resources);
      });
    } catch (error) {
      throw wrap(error, `update resources of container "${config.metadata.name}"`);
    }
  }

  async sandbox(id: SandboxId, change: SandboxResources, signal: AbortSignal): Promise<void> {
    const { config } = this.#registry.sandbox(id).record;
    try {
      await this.#locks.run(id, async () => {
        const { record, vm } = this.#registry.sandbox(id);
        if (record.phase !== 'ready' || vm === undefined)
          throw new AppError('failed-precondition', `pod sandbox "${id}" is not ready`);
        const resources = merged(record.resources, change.resources);
        const overhead = merged(record.overhead, change.overhead);
        if (resources !== undefined) {
          refuseBeyondVm(vm.size, record.resources, resources);
          await vm.agent.updateSandbox(guestResources(resources), signal);
          await vm.limit(hostLimits(resources, overhead));
        }
        await this.#registry.updateSandbox(id, { resources, overhead });
      });
    } catch (error) {
      throw wrap(error, `update resources of pod sandbox ${config.metadata.namespace}/${config.metadata.name}`);
    }
  }
}

function merged(before: LinuxResources | undefined, change: LinuxResources | undefined): LinuxResources | undefined {
  return change === undefined ? before : mergeResources(before, change);
}
