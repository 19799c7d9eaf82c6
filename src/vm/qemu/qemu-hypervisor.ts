import { mkdir } from 'node:fs/promises';
import type { Log } from '../../platform/log.ts';
import { isAlive, terminate, type ProcessIdentity } from '../../platform/processes.ts';
import type { Hypervisor, Machine, MachineShape, MachineSpec, TemplateMemory, TemplateState } from '../hypervisor.ts';
import type { VmFolder } from '../vm-folder.ts';
import { type StartMode, qemuArguments } from './argv.ts';
import { type JailExtras, type JailerConfig, jailerArguments } from './jailer.ts';
import { connectMonitor, QemuVm } from './qemu-vm.ts';
import { spawnQemu, watchQemu } from './qemu-process.ts';

const adoptTimeoutMs = 5_000;
const killGraceMs = 500;

/** Virtual machines as jailed QEMU processes. */
export class QemuHypervisor implements Hypervisor {
  readonly version: string;
  readonly #config: JailerConfig;
  readonly #log: Log;

  constructor(config: JailerConfig, version: string, log: Log) {
    this.#config = config;
    this.version = version;
    this.#log = log;
  }

  describe(mode: StartMode, shape: MachineShape): readonly string[] {
    return qemuArguments({ mode, ...shape });
  }

  boot(spec: MachineSpec, signal: AbortSignal): Promise<Machine> {
    return this.#start('cold', spec, {}, signal);
  }

  async bootTemplate(spec: MachineSpec, memory: TemplateMemory, signal: AbortSignal): Promise<Machine> {
    await mkdir(spec.folder.run, { mode: 0o700 });
    return this.#start('template', spec, { memory, run: true }, signal);
  }

  restore(spec: MachineSpec, template: TemplateState, signal: AbortSignal): Promise<Machine> {
    const { memory, stateFile } = template;
    // The memory of a clone, private copies of a file's pages, has no huge pages anyhow: they would only be 2 MiB for
    // 128 KiB of ACPI tables. An emulator has its translated code in them as well, and runs the faster for it.
    const smallPages = spec.shape.accelerator === 'kvm';
    return this.#start('clone', spec, { memory, stateFile, smallPages }, signal);
  }

  async adopt(process: ProcessIdentity, folder: VmFolder, signal: AbortSignal): Promise<Machine | undefined> {
    if (!(await isAlive(process))) return undefined;
    const qemu = watchQemu(process, folder);
    const qmp = await connectMonitor(qemu, folder, AbortSignal.any([signal, AbortSignal.timeout(adoptTimeoutMs)]));
    return new QemuVm(qemu, qmp, folder, this.#config.binary, this.#log);
  }

  async #start(mode: StartMode, spec: MachineSpec, extras: JailExtras, signal: AbortSignal): Promise<QemuVm> {
    const args = jailerArguments(this.#config, spec, extras, this.describe(mode, spec.shape));
    const qemu = await spawnQemu(this.#config.binary, args, spec.folder);
    try {
      const qmp = await connectMonitor(qemu, spec.folder, signal);
      const vm = new QemuVm(qemu, qmp, spec.folder, this.#config.binary, this.#log);
      if (mode === 'clone') await vm.restore(signal);
      return vm;
    } catch (error) {
      await terminate(qemu.identity, killGraceMs);
      throw error;
    }
  }
}
