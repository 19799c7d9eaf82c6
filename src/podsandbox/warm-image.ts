import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { type ContainerId, newContainerId } from './ids.ts';
import type { Image } from './ports.ts';
import { sigkill } from './signals.ts';
import { configureThrowaway, type IdleVm, outputOf, type ThrowawaySpec, throwawaySpec } from './throwaway.ts';

/** A server is warm by then; most other programs have ended for want of input. */
const runMs = 2_000;

/**
 * Attaches an image and runs its program once, without network, volumes or input, for at most two seconds. The disk
 * stays attached and the image mounted: what the guest has read of it, and under emulation what QEMU has translated, is
 * there when a pod uses the image. `file` is that of `image` for as long as it exists.
 *
 * A program that cannot be run is logged and no more. After an error the guest is of no use: something of the container
 * may be left in it.
 */
export async function warmImage(
  vm: IdleVm,
  image: Pick<Image, 'id' | 'config'>,
  file: string,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const id = newContainerId();
  await configureThrowaway(vm, signal);
  const disk = await vm.attachDisk(file, signal);
  try {
    const spec = throwawaySpec({ id, image, disk, keepImage: true, command: [], guestFiles: [] });
    await runOnce(vm, id, spec, signal);
  } catch (error) {
    signal.throwIfAborted();
    log.warn({ image: image.id, err: error }, `cannot warm an image: ${messageOf(error)}`);
  }
  await vm.agent.removeContainer(id, signal);
  vm.leaveDisk(file, disk);
}

async function runOnce(vm: IdleVm, id: ContainerId, spec: ThrowawaySpec, signal: AbortSignal): Promise<void> {
  await vm.agent.createContainer(spec, signal);
  await vm.agent.startContainer(id, signal);
  const ended = new AbortController();
  await Promise.all([
    drain(vm, id, signal).finally(() => {
      ended.abort();
    }),
    endLater(vm, id, AbortSignal.any([signal, ended.signal])),
  ]);
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
