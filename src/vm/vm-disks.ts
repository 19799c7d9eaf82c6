import { link, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, hasCode, wrap } from '../platform/errors.ts';
import { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { Machine } from './hypervisor.ts';
import { imageSlotCount, slotSerial } from './qemu/devices/image-slots.ts';

/** Serials of disks beyond the slots: disk-1, disk-2, ..., and those of block devices. */
const hotAddPrefix = 'disk-';
const blockPrefix = 'block-';

type Position = { readonly kind: 'slot'; readonly slot: number } | { readonly kind: 'hot-added' };

/**
 * Disks of one VM: read-only files go into the slots first, then become hot-added disks, each a hard
 * link in the VM's disk folder. Block devices of the host are hot-added.
 */
export class VmDisks {
  readonly #machine: Machine;
  readonly #folder: string;
  readonly #lock = new KeyedMutex();
  readonly #slotBytes: number;
  readonly #attached: Map<string, Position>;
  /** Serials of disks that are attached for nobody yet, by the file each was made of. */
  readonly #spare = new Map<string, string>();

  private constructor(machine: Machine, folder: string, slotBytes: number, attached: Map<string, Position>) {
    this.#machine = machine;
    this.#folder = folder;
    this.#slotBytes = slotBytes;
    this.#attached = attached;
  }

  /** Of a machine that has just been started. */
  static none(machine: Machine, folder: string, slotBytes: number): VmDisks {
    return new VmDisks(machine, folder, slotBytes, new Map());
  }

  /** Of a machine that an earlier daemon started: QEMU says what it has. */
  static async of(machine: Machine, folder: string, slotBytes: number): Promise<VmDisks> {
    const { slots, hotAdded } = await machine.disks();
    const attached = new Map<string, Position>();
    for (const slot of slots.keys()) attached.set(slotSerial(slot), { kind: 'slot', slot });
    for (const serial of hotAdded.keys()) attached.set(serial, { kind: 'hot-added' });
    return new VmDisks(machine, folder, slotBytes, attached);
  }

  /** Attaches a file and returns the serial of the disk it becomes. */
  attach(source: string, signal: AbortSignal): Promise<string> {
    return this.#lock.run('', async () => {
      signal.throwIfAborted();
      const spare = this.#spare.get(source);
      if (spare !== undefined) {
        this.#spare.delete(source);
        return spare;
      }
      const { serial, position } = await this.#choose(source);
      const name = fileName(serial);
      await this.#link(source, name);
      try {
        if (position.kind === 'slot') await this.#machine.insertDisk(position.slot, name);
        else await this.#machine.hotAddDisk(serial, name);
      } catch (error) {
        await this.#unlink(name);
        throw wrap(error, `attach ${source} as ${serial}`);
      }
      this.#attached.set(serial, position);
      return serial;
    });
  }

  /** Attaches a block device of the host and returns the serial of the disk it becomes. */
  attachBlockDevice(device: string, writable: boolean, signal: AbortSignal): Promise<string> {
    return this.#lock.run('', async () => {
      signal.throwIfAborted();
      const serial = this.#unused(blockPrefix);
      try {
        await this.#machine.hotAddBlockDevice(serial, device, writable);
      } catch (error) {
        throw wrap(error, `attach ${device} as ${serial}`);
      }
      this.#attached.set(serial, { kind: 'hot-added' });
      return serial;
    });
  }

  /** Leaves a disk for whoever attaches the same file next; the file must not change. */
  leave(source: string, serial: string): void {
    this.#spare.set(source, serial);
  }

  /** Unknown serials are fine. */
  detach(serial: string): Promise<void> {
    return this.#lock.run('', async () => {
      const position = this.#attached.get(serial);
      if (!position) return;
      if (position.kind === 'slot') await this.#machine.ejectDisk(position.slot);
      else await this.#machine.hotRemoveDisk(serial);
      await this.#unlink(fileName(serial));
      this.#attached.delete(serial);
    });
  }

  async #choose(source: string): Promise<{ serial: string; position: Position }> {
    const found = await stat(source).catch((error: unknown) => {
      throw wrap(error, `attach ${source}`, hasCode(error, 'ENOENT') ? 'not-found' : 'internal');
    });
    if (!found.isFile()) throw new AppError('unimplemented', `attach ${source}: only files can be attached`);
    // A slot's size is fixed for the guest; what does not fit becomes a disk of its own size.
    const free = Array.from({ length: imageSlotCount }, (_, slot) => slot).find(
      (slot) => !this.#attached.has(slotSerial(slot)),
    );
    if (free !== undefined && found.size === this.#slotBytes) {
      return { serial: slotSerial(free), position: { kind: 'slot', slot: free } };
    }
    return { serial: this.#unused(hotAddPrefix), position: { kind: 'hot-added' } };
  }

  #unused(prefix: string): string {
    let number = 1;
    while (this.#attached.has(`${prefix}${String(number)}`)) number++;
    return `${prefix}${String(number)}`;
  }

  async #link(source: string, name: string): Promise<void> {
    const target = join(this.#folder, name);
    try {
      await rm(target, { force: true });
      await link(source, target);
    } catch (error) {
      // An image can be removed at any moment.
      const kind = hasCode(error, 'ENOENT') ? 'not-found' : 'internal';
      if (!hasCode(error, 'EXDEV')) throw wrap(error, `link ${source} to ${target}`, kind);
      throw new AppError(
        'failed-precondition',
        `${source} is on another file system than ${this.#folder}: images and the disks of virtual machines must share one`,
        { cause: error },
      );
    }
  }

  async #unlink(name: string): Promise<void> {
    await rm(join(this.#folder, name), { force: true });
  }
}

function fileName(serial: string): string {
  return `${serial}.img`;
}
