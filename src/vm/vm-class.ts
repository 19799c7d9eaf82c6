import { AppError } from '../platform/errors.ts';

const mebibyte = 1024 * 1024;

/** A size of VM and what is done for it beforehand. Sizes are ceilings: memory that the guest never touches costs nothing. */
export interface VmClass {
  readonly name: string;
  readonly vcpus: number;
  /** A multiple of 1 MiB. */
  readonly memoryBytes: number;
  /** Size of the disk for writable layers, sparse. */
  readonly scratchBytes: number;
  /** Paused clones kept ready at least. */
  readonly poolSize: number;
  /** And at most, when many are asked for; less than `poolSize`: always so many. */
  readonly poolMax: number;
  /** Make VMs as clones of a template; without it each one boots. */
  readonly template: boolean;
  /** Let pooled clones perform a whole dummy claim before they are paused. */
  readonly rehearse: boolean;
  /** Names of images that pooled clones hold attached, mounted, and run once. */
  readonly warmImages: readonly string[];
  /** At most so much translated code is kept of each VM under emulation. A multiple of 1 MiB. */
  readonly translationBytes: number;
  /** Arguments handed to QEMU after ours. */
  readonly qemuArguments: readonly string[];
}

export const vmClassDefaults = {
  vcpus: 1,
  memoryBytes: 2048 * mebibyte,
  scratchBytes: 10 * 1024 * mebibyte,
  poolSize: 2,
  poolMax: 0,
  template: true,
  rehearse: true,
  warmImages: [],
  translationBytes: 64 * mebibyte,
  qemuArguments: [],
} as const satisfies Omit<VmClass, 'name'>;

/** What a pod asks for. */
export interface VmSize {
  readonly vcpus?: number;
  readonly memoryBytes?: number;
}

/** What kernel, agent and page tables take: added to what a pod asks for when a VM is made to its measure. */
const guestOverheadBytes = 256 * mebibyte;
const memoryStepBytes = 128 * mebibyte;

/** The size a request needs beyond its class, or undefined when the class is big enough. */
export function oversize(
  vmClass: VmClass,
  size: VmSize,
): { readonly vcpus: number; readonly memoryBytes: number } | undefined {
  const vcpus = Math.ceil(size.vcpus ?? 0);
  const memoryBytes = size.memoryBytes ?? 0;
  if (vcpus <= vmClass.vcpus && memoryBytes <= vmClass.memoryBytes) return undefined;
  return {
    vcpus: Math.max(vcpus, vmClass.vcpus),
    memoryBytes:
      memoryBytes <= vmClass.memoryBytes
        ? vmClass.memoryBytes
        : Math.ceil((memoryBytes + guestOverheadBytes) / memoryStepBytes) * memoryStepBytes,
  };
}

/** The classes of the configuration by name. */
export class VmClasses {
  readonly #byName: ReadonlyMap<string, VmClass>;

  constructor(classes: readonly VmClass[]) {
    for (const vmClass of classes) {
      if (vmClass.memoryBytes % mebibyte !== 0)
        throw new AppError('invalid', `memory of vm class ${vmClass.name} is not a multiple of 1 MiB`);
    }
    this.#byName = new Map(classes.map((vmClass) => [vmClass.name, vmClass]));
  }

  get(name: string): VmClass {
    const found = this.#byName.get(name);
    if (!found) throw new AppError('invalid', `there is no vm class ${name}`);
    return found;
  }

  all(): VmClass[] {
    return [...this.#byName.values()];
  }
}
