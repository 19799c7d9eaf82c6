import { chmod, chown, mkdir, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { writeFileAtomic } from '../platform/atomic-file.ts';
import { AppError, hasCode, wrap } from '../platform/errors.ts';
import { unmountBelow } from '../platform/unmount.ts';
import { scratchName } from './qemu/argv.ts';

const processIdentity = z.strictObject({ pid: z.int().positive(), startTime: z.string().regex(/^\d+$/) });

/** Written before anything else of a VM exists, so that what a crash leaves can be found and removed. */
const vmRecord = z.strictObject({
  version: z.literal(1),
  vmId: z.string().regex(/^[0-9a-f]{16}$/),
  uid: z.int().positive(),
  className: z.string(),
  /** What the guest has. */
  vcpus: z.int().positive(),
  memoryBytes: z.number(),
  /** Size of the disks that take images. */
  slotBytes: z.number(),
  origin: z.enum(['template', 'clone', 'cold', 'probe']),
  createdAt: z.iso.datetime(),
  /** Absent until QEMU has been started. */
  process: processIdentity.optional(),
  netns: z.string().optional(),
  /** Where its process is below its pod's cgroup; absent until it is moved there. */
  cgroup: z.strictObject({ path: z.string(), made: z.array(z.string()).readonly() }).optional(),
});

export type VmRecord = z.infer<typeof vmRecord>;

/** Longest path that fits into a unix socket address. */
const maxSocketPath = 107;

export function isVmId(text: string): boolean {
  return /^[0-9a-f]{16}$/.test(text);
}

/** Where the files of all VMs live. */
export interface VmFolders {
  /** Runtime files, e.g. /run/kelyfos. */
  readonly state: string;
  /** Disks, on the file system of the images, e.g. /var/lib/kelyfos. */
  readonly root: string;
}

/** The files of one VM on the host. */
export class VmFolder {
  readonly vmId: string;
  /** Root only: holds vm.json, sockets, logs and the share. QEMU has the sockets and logs open and sees none of their names. */
  readonly path: string;
  /** /run in the jail of a template, for the socket of its device state; other VMs have none. */
  readonly run: string;
  /** The 9p share; /share in the jail. */
  readonly share: string;
  /** /disks in the jail. */
  readonly disks: string;
  readonly monitorSocket: string;
  readonly dataSocket: string;
  readonly resetSocket: string;
  readonly stateSink: string;
  readonly serialLog: string;
  readonly stderrLog: string;
  readonly scratch: string;
  readonly #recordFile: string;

  constructor(folders: VmFolders, vmId: string) {
    // An empty id would be the folder of all VMs, and folders are removed.
    if (!isVmId(vmId)) throw new AppError('invalid', `vm id "${vmId}" is not 16 hex digits`);
    this.vmId = vmId;
    this.path = join(folders.state, 'vms', vmId);
    this.run = join(this.path, 'run');
    this.share = join(this.path, 'share');
    this.disks = join(folders.root, 'vms', vmId);
    this.monitorSocket = join(this.path, 'qmp.sock');
    this.dataSocket = join(this.path, 'agent.sock');
    this.resetSocket = join(this.path, 'reset.sock');
    this.stateSink = join(this.run, 'state.sock');
    this.serialLog = join(this.path, 'serial.log');
    this.stderrLog = join(this.path, 'stderr.log');
    this.scratch = join(this.disks, scratchName);
    this.#recordFile = join(this.path, 'vm.json');
    if (this.resetSocket.length > maxSocketPath) {
      throw new AppError(
        'invalid',
        `state directory ${folders.state} is too long: ${this.resetSocket} exceeds ${String(maxSocketPath)} bytes`,
      );
    }
  }

  /** Ids of all VMs that have left something under either directory. */
  static async list(folders: VmFolders): Promise<string[]> {
    const names = await Promise.all([folders.state, folders.root].map((base) => entries(join(base, 'vms'))));
    return [...new Set(names.flat().filter(isVmId))].sort((a, b) => a.localeCompare(b));
  }

  /** Makes the folders; the record comes first. The folder of disks belongs to the VM's user. */
  async create(record: VmRecord): Promise<void> {
    // Traversable, so that the jail's user reaches its own parts; vm.json and the logs are root's.
    await mkdir(this.path, { recursive: true, mode: 0o711 });
    await this.writeRecord(record);
    await mkdir(this.disks, { recursive: true, mode: 0o700 });
    await chown(this.disks, record.uid, record.uid);
    await mkdir(this.share, { mode: 0o755 });
    await chmod(this.share, 0o755);
  }

  async writeRecord(record: VmRecord): Promise<void> {
    // When the host crashes the VM is gone as well; a damaged record does not keep its remains from being removed.
    const text = `${JSON.stringify(vmRecord.parse(record), undefined, 2)}\n`;
    await writeFileAtomic(this.#recordFile, text, { durable: false });
  }

  /** The record, or undefined when there is none. A damaged one is an error that names the file. */
  async readRecord(): Promise<VmRecord | undefined> {
    try {
      return vmRecord.parse(JSON.parse(await readFile(this.#recordFile, 'utf8')));
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw wrap(error, `read ${this.#recordFile}`);
    }
  }

  /** Removes all of it. Volumes mounted below the share are unmounted first: deleting must never reach into them. */
  async remove(): Promise<void> {
    await unmountBelow(this.path);
    await rm(this.disks, { recursive: true, force: true });
    await rm(this.path, { recursive: true, force: true });
  }
}

async function entries(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}
