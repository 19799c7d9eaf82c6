import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GuestAgent } from '../../src/agent/guest-agent.ts';
import type { GuestSockets } from '../../src/agent/handshake.ts';
import { silentLog } from '../../src/platform/log.ts';
import { inheritedFds } from '../../src/vm/qemu/devices/inherited-fds.ts';
import { qemuArguments, scratchName } from '../../src/vm/qemu/argv.ts';
import { QmpClient } from '../../src/vm/qemu/qmp.ts';
import { createScratchDisk } from '../../src/vm/scratch-disk.ts';
import { freeFolder, removeFolder } from './free-folder.ts';
import { startProcess, type StartedProcess } from './started-process.ts';

/** QEMU with the product's own devices but without jail and network: the guest and its agent alone. */
export interface BareGuest extends AsyncDisposable {
  readonly sockets: GuestSockets;
  /** The host's side of the 9p share. */
  readonly share: string;
  readonly qmp: QmpClient;
  readonly qemu: StartedProcess;
  /** A connection of its own; only one at a time is served. Closed with the guest. */
  connect(): GuestAgent;
  /** Puts a file into an image slot in the place of what was there. */
  fillSlot(slot: number, file: string): Promise<void>;
  serial(): Promise<string>;
}

const memoryBytes = 512 * 1024 ** 2;
const scratchBytes = 8 * 1024 ** 3;
const startTimeoutMs = 10_000;

function isNoDescriptorSet(argument: string, index: number, all: readonly string[]): boolean {
  return argument !== '-add-fd' && all[index - 1] !== '-add-fd';
}

export async function startBareGuest(): Promise<BareGuest> {
  const folder = await freeFolder('guest');
  const at = (path: string): string => join(folder, path);
  for (const name of ['share', 'disks']) await mkdir(at(name));
  await createScratchDisk(at(join('disks', scratchName)), scratchBytes, 0);
  const image = join(import.meta.dirname, '../../guest/image/current');
  const jailed = qemuArguments({
    mode: 'cold',
    accelerator: 'tcg',
    vcpus: 1,
    memoryBytes,
    translationBytes: 64 * 1024 ** 2,
    slotBytes: 8 * 1024 ** 3,
    extraArguments: [],
  });
  const sockets = { data: at('agent.sock'), reset: at('reset.sock') };
  const monitor = at('qmp.sock');
  const serial = at('serial.log');
  // What a jailer would have opened, by path instead.
  const byPath: readonly (readonly [string, string])[] = [
    [`socket,id=qmp,fd=${String(inheritedFds.monitor)}`, `socket,id=qmp,path=${monitor}`],
    [`socket,id=data,fd=${String(inheritedFds.data)}`, `socket,id=data,path=${sockets.data}`],
    [`socket,id=reset,fd=${String(inheritedFds.reset)}`, `socket,id=reset,path=${sockets.reset}`],
    ['path=/dev/fdset/1', `path=${serial}`],
    // A network device that leads nowhere instead of a tap.
    [`tap,id=net0,fd=${String(inheritedFds.tap)}`, 'hubport,id=net0,hubid=0'],
  ];
  const args = jailed.filter(isNoDescriptorSet).map((argument) =>
    byPath
      .reduce((text, [from, to]) => text.replace(from, to), argument)
      .replaceAll(/(^|=)\/(share|disks)\b/g, `$1${folder}/$2`)
      .replaceAll(/(^|=)\/guest\b/g, `$1${image}`),
  );
  const qemu = await startProcess('qemu-system-x86_64', args, { logFile: at('qemu.log') });
  const agents: GuestAgent[] = [];
  const slots = new Map<number, string>();
  let nextNode = 0;
  const qmp = await QmpClient.connect(monitor, AbortSignal.timeout(startTimeoutMs));
  return {
    sockets,
    share: at('share'),
    qmp,
    qemu,
    connect: () => {
      const agent = GuestAgent.connect(sockets, silentLog());
      agents.push(agent);
      return agent;
    },
    fillSlot: async (slot, file) => {
      const before = slots.get(slot);
      const node = `image${String(nextNode++)}`;
      await qmp.execute('blockdev-add', {
        driver: 'file',
        'node-name': node,
        filename: file,
        'read-only': true,
        locking: 'off',
      });
      await qmp.execute('qom-set', { path: `/machine/peripheral/slot${String(slot)}`, property: 'drive', value: node });
      slots.set(slot, node);
      if (before !== undefined) await qmp.execute('blockdev-del', { 'node-name': before });
    },
    serial: async () => await readFile(serial, 'utf8').catch(() => ''),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(agents.map((agent) => agent.close()));
      qmp.close();
      await qemu.stop();
      await removeFolder(folder);
    },
  };
}
