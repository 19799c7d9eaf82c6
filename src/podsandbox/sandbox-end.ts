import { messageOf, wrap } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { ContainerEnd } from './container-end.ts';
import type { PodNetworks, VmProvider } from './ports.ts';
import type { ContainerEntry, Registry, SandboxEntry } from './registry.ts';

/** How long killed containers may take to hand over their last output before the VM is ended anyway. */
const lastWordsMs = 10_000;
const sigkill = 9;

/** The way down of a sandbox: containers, network, VM. Every step may be repeated. */
export class SandboxEnd {
  readonly #registry: Registry;
  readonly #vms: VmProvider;
  readonly #networks: PodNetworks;
  readonly #containers: ContainerEnd;
  readonly #log: Log;

  constructor(registry: Registry, vms: VmProvider, networks: PodNetworks, containers: ContainerEnd, log: Log) {
    this.#registry = registry;
    this.#vms = vms;
    this.#networks = networks;
    this.#containers = containers;
    this.#log = log;
  }

  /** Leaves an ended sandbox whose record is all there is. The caller holds the sandbox's lock. */
  async end(entry: SandboxEntry, reason: string): Promise<void> {
    const { id, phase, netns, vmId } = entry.record;
    if (phase === 'ended') return;
    // Recorded first: a daemon that dies in the middle goes on here at its next start.
    if (phase !== 'ending') await this.#registry.updateSandbox(id, { phase: 'ending', reason });
    // Beside each other: the network takes longest, mostly in waiting for the kernel, and programs that are killed
    // need none. One that cannot be torn down is no reason to let them run on. A machine that cannot be halted is
    // told of by destroy.
    const [detached] = await Promise.allSettled([this.#networks.detach(id, netns), this.#endPrograms(entry)]);
    await (entry.vm ?? (vmId === '' ? undefined : await this.#vms.adopt(vmId)))?.destroy();
    entry.vm = undefined;
    for (const container of entry.containers) await this.#containers.lost(container, 'the pod sandbox was stopped');
    if (detached.status === 'rejected') throw wrap(detached.reason, `stop pod sandbox "${id}"`);
    await this.#registry.updateSandbox(id, { phase: 'ended', ips: [] });
  }

  /** Ends the sandbox by itself when its VM dies. `locked` runs work under the sandbox's lock. */
  watch(entry: SandboxEntry, locked: (work: () => Promise<void>) => Promise<void>): void {
    const { vm } = entry;
    const { id } = entry.record;
    void vm?.exited.then((exit) =>
      locked(async () => {
        // Stopped on request meanwhile, or gone altogether.
        if (entry.vm !== vm || entry.record.phase !== 'ready') return;
        this.#log.error({ sandboxId: id, vmId: vm.id, reason: exit.reason }, 'virtual machine died');
        await this.#registry.updateSandbox(id, { phase: 'ending', reason: `virtual machine died: ${exit.reason}` });
        for (const container of entry.containers)
          await this.#containers.lost(container, `virtual machine died: ${exit.reason}`);
        await this.end(entry, '');
      }).catch((error: unknown) => {
        this.#log.error(
          { sandboxId: id, err: error },
          'cannot clean up after a virtual machine; StopPodSandbox will try again',
        );
      }),
    );
  }

  async #endPrograms(entry: SandboxEntry): Promise<void> {
    await this.#killContainers(entry);
    await entry.vm?.halt();
  }

  async #killContainers(entry: SandboxEntry): Promise<void> {
    const alive = [...entry.containers].filter(({ record }) => record.phase === 'running');
    if (alive.length === 0 || entry.vm === undefined) return;
    const patience = AbortSignal.timeout(lastWordsMs);
    await Promise.all(alive.map((container) => this.#kill(container, patience)));
  }

  async #kill(container: ContainerEntry, patience: AbortSignal): Promise<void> {
    const { agent, exited } = container.sandbox.vm ?? {};
    const waited = Promise.withResolvers<undefined>();
    patience.addEventListener(
      'abort',
      () => {
        waited.resolve(undefined);
      },
      { once: true },
    );
    try {
      await agent?.signalContainer(container.record.id, sigkill, true, patience);
      await Promise.race([container.exited, waited.promise, exited]);
    } catch (error) {
      // The VM is ended next, which kills for certain; only unread output is at stake.
      this.#log.warn(
        { containerId: container.record.id, reason: messageOf(error) },
        'a container could not be killed in its guest',
      );
    }
  }
}
