import { type Accelerator, cpuArguments } from './devices/accelerator.ts';
import { balloonArguments } from './devices/balloon.ts';
import { consoleArguments } from './devices/console.ts';
import { guestChannelArguments } from './devices/guest-channel.ts';
import { imageSlotArguments } from './devices/image-slots.ts';
import { kernelArguments } from './devices/kernel.ts';
import { machineArguments } from './devices/machine.ts';
import { memoryArguments } from './devices/memory.ts';
import { monitorArguments } from './devices/monitor.ts';
import { networkArguments } from './devices/network.ts';
import { randomArguments } from './devices/random.ts';
import { sandboxArguments } from './devices/sandbox.ts';
import { scratchArguments } from './devices/scratch.ts';
import { scsiArguments } from './devices/scsi.ts';
import { shareArguments, shareTag } from './devices/share.ts';
import { jailPaths } from './jail-paths.ts';

/** How a QEMU process comes to life. */
export type StartMode = 'cold' | 'template' | 'clone';

export interface QemuConfig {
  readonly mode: StartMode;
  readonly accelerator: Accelerator;
  readonly vcpus: number;
  readonly memoryBytes: number;
  readonly translationBytes: number;
  /** Size of an image file. */
  readonly slotBytes: number;
  /** Options of the VM class that are handed to QEMU as they are, after ours. */
  readonly extraArguments: readonly string[];
}

/** QEMU's arguments, without its own name. The same for a template and its clones but for where memory comes from. */
export function qemuArguments(config: QemuConfig): string[] {
  const { mode, accelerator } = config;
  return [
    ...machineArguments(),
    ...cpuArguments({ accelerator, vcpus: config.vcpus, translationBytes: config.translationBytes }),
    ...memoryArguments({ source: mode === 'cold' ? 'anonymous' : mode, bytes: config.memoryBytes }),
    ...sandboxArguments(),
    ...monitorArguments(),
    ...consoleArguments(),
    ...guestChannelArguments(),
    ...randomArguments(),
    // QEMU gives pages of a file back by punching holes, which the seals of a template's memory forbid:
    // in a clone each report would only fail, with a line on stderr.
    ...balloonArguments({ freePageReporting: mode === 'cold' }),
    ...shareArguments({ folder: jailPaths.share, tag: shareTag }),
    ...networkArguments(),
    ...scsiArguments(),
    ...scratchArguments({ file: `${jailPaths.disks}/${scratchName}` }),
    ...imageSlotArguments(config.slotBytes),
    ...config.extraArguments,
    ...kernelArguments({ accelerator, kernel: `${jailPaths.guest}/vmlinux`, initrd: `${jailPaths.guest}/initramfs` }),
    ...(mode === 'clone' ? ['-incoming', 'defer'] : []),
  ];
}

/** Name of the scratch disk in the VM's disk folder. */
export const scratchName = 'scratch.img';
