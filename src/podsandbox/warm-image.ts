import { setTimeout as delay } from 'node:timers/promises';
import { type ContainerId, newContainerId } from './ids.ts';
import type { Image } from './ports.ts';
import { sigkill } from './signals.ts';
import { configureThrowaway, type IdleVm, outputOf, throwawaySpec } from './throwaway.ts';

/** A server is warm by then; most other programs have ended for want of input. */
const runMs = 2_000;

/**
 * Attaches an image and runs its program once, without network, volumes or input, for at most two seconds. The disk
 * stays attached and the image mounted, also after a failure: what the guest has read of it, and under emulation what
 * QEMU has translated, is there when a pod uses the image. `file` is that of `image` for as long as it exists.
 */
export async function warmImage(
  vm: IdleVm,
  image: Pick<Image, 'id' | 'config'>,
  file: string,
  signal: AbortSignal,
): Promise<void> {
  await configureThrowaway(vm, signal);
  const disk = await vm.attachDisk(file, signal);
  try {
    await runOnce(vm, image, disk, signal);
  } finally {
    vm.leaveDisk(file, disk);
  }
}

async function runOnce(
  vm: IdleVm,
  image: Pick<Image, 'id' | 'config'>,
  disk: string,
  signal: AbortSignal,
): Promise<void> {
  const id = newContainerId();
  const spec = throwawaySpec({ id, image, disk, keepImage: true, command: [], guestFiles: [] });
  await vm.agent.createContainer(spec, signal);
  try {
    await vm.agent.startContainer(id, signal);
    const ended = new AbortController();
    await Promise.all([
      drain(vm, id, signal).finally(() => {
        ended.abort();
      }),
      endLater(vm, id, AbortSignal.any([signal, ended.signal])),
    ]);
  } finally {
    await vm.agent.removeContainer(id, signal);
  }
}

async function drain(vm: IdleVm, id: ContainerId, signal: AbortSignal): Promise<void> {
  const output = outputOf(vm, id, signal);
  while (!(await output.next()).done);
}

async function endLater(vm: IdleVm, id: ContainerId, ended: AbortSignal): Promise<void> {
  try {
    await delay(runMs, undefined, { signal: ended });
  } catch {
    return;
  }
  await vm.agent.signalContainer(id, sigkill, true, ended);
}
