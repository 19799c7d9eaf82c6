import type { ProcessIdentity } from '../platform/processes.ts';
import type { Accelerator } from './qemu/devices/accelerator.ts';
import type { StartMode } from './qemu/argv.ts';
import type { GuestImage } from './guest-image.ts';
import type { VmFolder } from './vm-folder.ts';

/** Everything that shapes the machine the guest sees: equal for a template and its clones. */
export interface MachineShape {
  readonly accelerator: Accelerator;
  readonly vcpus: number;
  readonly memoryBytes: number;
  /** For code that an emulator has translated. */
  readonly translationBytes: number;
  /** Size of an image file, and so of the disks that take one. */
  readonly slotBytes: number;
  readonly extraArguments: readonly string[];
  readonly guest: GuestImage;
}

/** What one VM has been given on the host; made before it starts, removed after it is gone. */
export interface MachineSpec {
  readonly shape: MachineShape;
  readonly folder: VmFolder;
  readonly uid: number;
  readonly netns: string;
  readonly tap: string;
  readonly cgroups: readonly string[];
}

/** Memory of a template, kept alive by a process of its own. Path as root sees it, /proc/<pid>/fd/<n>. */
export interface TemplateMemory {
  readonly path: string;
}

/** What clones start from. */
export interface TemplateState {
  readonly memory: TemplateMemory;
  /** File with the device state. */
  readonly stateFile: string;
}

export interface MachineExit {
  /** One line: exit code or signal, the last of stderr and of the serial console. */
  readonly reason: string;
  readonly at: Date;
}

/** Disks of a running machine beyond its scratch disk. Values are file names in the VM's disk folder, but for block devices. */
export interface MachineDisks {
  readonly slots: ReadonlyMap<number, string>;
  readonly hotAdded: ReadonlyMap<string, string>;
}

/** One running virtual machine. */
export interface Machine {
  readonly process: ProcessIdentity;
  /** Never rejects; resolves once, whoever ended the process. */
  readonly exited: Promise<MachineExit>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Resolves when a program in the guest has opened the named port. */
  portOpened(name: string, signal: AbortSignal): Promise<void>;
  /** Writes the device state of a paused template to a file; its memory stays where it is. */
  saveState(file: string, signal: AbortSignal): Promise<void>;
  disks(): Promise<MachineDisks>;
  /** Exchanges what is in a slot. `name` is a file in the VM's disk folder. */
  insertDisk(slot: number, name: string): Promise<void>;
  ejectDisk(slot: number): Promise<void>;
  hotAddDisk(serial: string, name: string): Promise<void>;
  /** `device` is a block device of the host, which its jail cannot reach by itself. */
  hotAddBlockDevice(serial: string, device: string, writable: boolean): Promise<void>;
  hotRemoveDisk(serial: string): Promise<void>;
  /** Orderly quit, SIGTERM, SIGKILL. Idempotent. */
  stop(): Promise<void>;
}

/** Starts and finds virtual machines. */
export interface Hypervisor {
  /** Says which hypervisor and version; templates of another one are not used. */
  readonly version: string;
  /** Arguments that a machine of this shape starts with; part of a template's key. */
  describe(mode: StartMode, shape: MachineShape): readonly string[];
  /** Boots the guest kernel; the machine runs when this resolves. */
  boot(spec: MachineSpec, signal: AbortSignal): Promise<Machine>;
  /** Boots with memory that clones will share. */
  bootTemplate(spec: MachineSpec, memory: TemplateMemory, signal: AbortSignal): Promise<Machine>;
  /** A clone, paused where the template was frozen. */
  restore(spec: MachineSpec, template: TemplateState, signal: AbortSignal): Promise<Machine>;
  /** A machine that an earlier daemon started, or undefined when its process is gone. */
  adopt(process: ProcessIdentity, folder: VmFolder, signal: AbortSignal): Promise<Machine | undefined>;
}
