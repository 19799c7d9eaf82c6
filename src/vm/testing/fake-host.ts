import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProcessIdentity } from '../../platform/processes.ts';
import type { GuestConnection, GuestLink } from '../guest-link.ts';
import type {
  Hypervisor,
  Machine,
  MachineDisks,
  MachineExit,
  MachineShape,
  MachineSpec,
  TemplateMemory,
  TemplateState,
} from '../hypervisor.ts';
import type { StartMode } from '../qemu/argv.ts';
import type { HeldMemory, TemplateMemories } from '../template-memory.ts';
import type { VmFolder } from '../vm-folder.ts';
import type { SiteServices } from '../vm-site.ts';
import { UidPool } from '../uid-pool.ts';
import type { FailPoints } from './fail-points.ts';

/** A machine that lives in memory: its state is what a test looks at. */
export class FakeMachine implements Machine {
  readonly process: ProcessIdentity;
  readonly exited: Promise<MachineExit>;
  readonly slots = new Map<number, string>();
  readonly hotAdded = new Map<string, string>();
  state: 'running' | 'paused' | 'gone';
  readonly #fail: FailPoints;
  readonly #exit = Promise.withResolvers<MachineExit>();

  constructor(fail: FailPoints, pid: number, state: 'running' | 'paused') {
    this.#fail = fail;
    this.process = { pid, startTime: '1' };
    this.state = state;
    this.exited = this.#exit.promise;
  }

  die(reason: string): void {
    this.state = 'gone';
    this.#exit.resolve({ reason, at: new Date(0) });
  }

  async pause(): Promise<void> {
    await this.#fail.step('pause');
    this.state = 'paused';
  }

  async resume(): Promise<void> {
    await this.#fail.step('resume');
    this.state = 'running';
  }

  async portOpened(): Promise<void> {
    await this.#fail.step('port opened');
  }

  async saveState(file: string): Promise<void> {
    await this.#fail.step('save state');
    if (this.state !== 'paused') throw new Error('a running machine cannot be frozen');
    await writeFile(file, 'state');
  }

  async disks(): Promise<MachineDisks> {
    return { slots: this.slots, hotAdded: this.hotAdded };
  }

  async insertDisk(slot: number, name: string): Promise<void> {
    await this.#fail.step('insert disk');
    this.slots.set(slot, name);
  }

  async ejectDisk(slot: number): Promise<void> {
    await this.#fail.step('eject disk');
    this.slots.delete(slot);
  }

  async hotAddDisk(serial: string, name: string): Promise<void> {
    await this.#fail.step('hot-add disk');
    this.hotAdded.set(serial, name);
  }

  async hotAddBlockDevice(serial: string, device: string, writable: boolean): Promise<void> {
    await this.#fail.step('hot-add block device');
    this.hotAdded.set(serial, `${device} ${writable ? 'rw' : 'ro'}`);
  }

  async hotRemoveDisk(serial: string): Promise<void> {
    await this.#fail.step('hot-remove disk');
    this.hotAdded.delete(serial);
  }

  async stop(): Promise<void> {
    this.die('stopped');
  }
}

export class FakeHypervisor implements Hypervisor {
  version = 'fake 1';
  readonly machines: FakeMachine[] = [];
  readonly modes: StartMode[] = [];
  readonly #fail: FailPoints;

  constructor(fail: FailPoints) {
    this.#fail = fail;
  }

  running(): FakeMachine[] {
    return this.machines.filter((machine) => machine.state !== 'gone');
  }

  describe(_mode: StartMode, shape: MachineShape): readonly string[] {
    return [String(shape.memoryBytes), String(shape.vcpus), shape.accelerator, ...shape.extraArguments];
  }

  boot(_spec: MachineSpec): Promise<Machine> {
    return this.#start('cold', 'running');
  }

  bootTemplate(_spec: MachineSpec, _memory: TemplateMemory): Promise<Machine> {
    return this.#start('template', 'running');
  }

  restore(_spec: MachineSpec, _template: TemplateState): Promise<Machine> {
    return this.#start('clone', 'paused');
  }

  async adopt(process: ProcessIdentity, _folder: VmFolder): Promise<Machine | undefined> {
    return this.running().find((machine) => machine.process.pid === process.pid);
  }

  async #start(mode: StartMode, state: 'running' | 'paused'): Promise<Machine> {
    await this.#fail.step(`start ${mode}`);
    // Above the largest pid of Linux: nothing in a test may hit a process of the host.
    const machine = new FakeMachine(this.#fail, 4_194_305 + this.machines.length, state);
    this.machines.push(machine);
    this.modes.push(mode);
    return machine;
  }
}

export class FakeAgent implements GuestConnection {
  closed = false;

  async close(): Promise<void> {
    this.closed = true;
  }
}

export class FakeGuest implements GuestLink<FakeAgent> {
  readonly agents: FakeAgent[] = [];
  rehearsals = 0;
  /** Ids of images that are here, by name. */
  readonly images = new Map<string, string>();
  /** What each clone that went to a pool has warmed. */
  readonly warmed: (readonly string[])[] = [];
  /** What networks made ahead are like; as `networkAhead`. */
  network: string | undefined = '';
  /** Ids of VMs by that of the pod that they have a network for. */
  readonly networks = new Map<string, string>();
  #podIds = 0;
  readonly #fail: FailPoints;

  constructor(fail: FailPoints) {
    this.#fail = fail;
  }

  open(): FakeAgent[] {
    return this.agents.filter((agent) => !agent.closed);
  }

  connect(): FakeAgent {
    const agent = new FakeAgent();
    this.agents.push(agent);
    return agent;
  }

  awake(): Promise<void> {
    return this.ready();
  }

  ready(): Promise<void> {
    return this.#fail.step('guest ready');
  }

  warm(_vm: unknown, _signal: AbortSignal): Promise<void> {
    return this.#fail.step('warm');
  }

  async rehearse(): Promise<void> {
    await this.#fail.step('rehearse');
    this.rehearsals++;
  }

  imagesHere(names: readonly string[]): readonly string[] {
    return names.flatMap((name) => this.images.get(name) ?? []);
  }

  async warmImages(_vm: unknown, ids: readonly string[]): Promise<void> {
    await this.#fail.step('warm images');
    this.warmed.push(ids);
  }

  networkAhead(): string | undefined {
    return this.network;
  }

  newPodId(): string {
    this.#podIds++;
    return `pod-${String(this.#podIds)}`;
  }

  async attachNetwork(podId: string, { id }: { readonly id: string }): Promise<void> {
    await this.#fail.step('attach network');
    this.networks.set(podId, id);
  }

  async detachNetwork(podId: string): Promise<void> {
    this.networks.delete(podId);
  }
}

export class FakeMemories implements TemplateMemories {
  readonly held = new Map<number, { sealed: boolean }>();
  readonly #fail: FailPoints;
  #nextPid = 5_000_000;

  constructor(fail: FailPoints) {
    this.#fail = fail;
  }

  async create(): Promise<HeldMemory> {
    await this.#fail.step('create memory');
    const pid = this.#nextPid++;
    this.held.set(pid, { sealed: false });
    return { holder: { pid, startTime: '1' }, path: `/proc/${String(pid)}/fd/3` };
  }

  async seal(memory: HeldMemory): Promise<void> {
    await this.#fail.step('seal memory');
    this.held.set(memory.holder.pid, { sealed: true });
  }

  async find(holder: ProcessIdentity): Promise<HeldMemory | undefined> {
    if (!this.held.has(holder.pid)) return undefined;
    return { holder, path: `/proc/${String(holder.pid)}/fd/3` };
  }

  async free(memory: HeldMemory): Promise<void> {
    this.held.delete(memory.holder.pid);
  }
}

/** Sets of ids with the steps of a host service. */
class FakeHostParts {
  readonly ids = new Set<string>();
  readonly #name: string;
  readonly #fail: FailPoints;

  constructor(name: string, fail: FailPoints) {
    this.#name = name;
    this.#fail = fail;
  }

  path(vmId: string): string {
    return `/run/netns/kelyfos-${vmId}`;
  }

  async make(vmId: string): Promise<void> {
    await this.#fail.step(`create ${this.#name}`);
    this.ids.add(vmId);
    // Half-succeeds: what was made must be removed even though the step failed.
    await this.#fail.step(`finish ${this.#name}`);
  }

  async remove(vmId: string): Promise<void> {
    this.ids.delete(vmId);
  }

  async list(): Promise<readonly string[]> {
    return [...this.ids];
  }
}

export interface FakeHost {
  readonly services: SiteServices;
  readonly netns: ReadonlySet<string>;
  readonly cgroups: ReadonlySet<string>;
  readonly folder: string;
  remove(): Promise<void>;
}

/** Namespaces, cgroups and disks that leave traces only in memory and in a folder of their own. */
export async function fakeHost(fail: FailPoints): Promise<FakeHost> {
  const folder = await mkdtemp(join(tmpdir(), 'kelyfos-vm-'));
  const netns = new FakeHostParts('netns', fail);
  const cgroups = new FakeHostParts('cgroup', fail);
  const self = { uid: process.getuid?.() ?? 0 };
  // Without root a file can be given to nobody but oneself; ids must differ only when there are several.
  const uids = self.uid === 0 ? new UidPool() : new UidPool({ first: self.uid, count: 1 });
  return {
    netns: netns.ids,
    cgroups: cgroups.ids,
    folder,
    services: {
      folders: { state: join(folder, 'state'), root: join(folder, 'root') },
      uids,
      netns: {
        path: (vmId) => netns.path(vmId),
        create: async (vmId) => {
          await netns.make(vmId);
          return netns.path(vmId);
        },
        remove: (vmId) => netns.remove(vmId),
        list: () => netns.list(),
      },
      cgroups: {
        create: async (vmId) => {
          await cgroups.make(vmId);
          return [`/sys/fs/cgroup/kelyfos/${vmId}`];
        },
        place: async (vmId, parent) => ({ path: `${parent}/kelyfos-${vmId}`, made: [] }),
        move: () => fail.step('move to cgroup'),
        found: () => undefined,
        limit: async () => undefined,
        kill: async () => undefined,
        remove: (vmId) => cgroups.remove(vmId),
      },
      makeScratch: async (path) => {
        await fail.step('make scratch');
        await writeFile(path, '');
      },
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
