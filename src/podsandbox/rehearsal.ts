import { Channel } from '../agent/gen/agent/v1/agent_pb.js';
import { AppError } from '../platform/errors.ts';
import { silentLog } from '../platform/log.ts';
import { execSync } from './exec-sync.ts';
import { type ContainerId, newContainerId } from './ids.ts';
import type { ImageConfig } from './ports.ts';
import { sigkill } from './signals.ts';
import { configureThrowaway, type IdleVm, outputOf, throwawaySpec } from './throwaway.ts';

/**
 * Does what programs do when they start and writes a line; then it waits if told to by the argument `wait`. The guest
 * image brings it, so that the pages with its code stay in use: under emulation each block that was translated from a
 * page is thrown away when the page is used for something else, and that would be while the pod's container is made.
 */
const program = '/bin/rehearse';

/**
 * Goes through a whole claim with a throw-away container, so that the guest's kernel and agent, and
 * under emulation QEMU's translated code, are warm when the real one comes. Leaves the guest without
 * a trace of it: ConfigureSandbox of the real claim replaces everything, the container is removed.
 */
export async function rehearse(vm: IdleVm, imageFile: string, signal: AbortSignal): Promise<void> {
  const id = newContainerId();
  await configureThrowaway(vm, signal);
  const disk = await vm.attachDisk(imageFile, signal);
  try {
    const image = { id: '', config: imageConfig };
    const command = [program, 'wait'];
    const spec = throwawaySpec({ id, image, disk, keepImage: false, command, guestFiles: [program] });
    await vm.agent.createContainer(spec, signal);
    await vm.agent.startContainer(id, signal);
    const output = new Output();
    // Together: when the rehearsal is called off, all fail, and none may do so unheard.
    await Promise.all([output.read(vm, id, signal), perform(vm, id, output, signal)]);
    await vm.agent.removeContainer(id, signal);
  } finally {
    await vm.detachDisk(disk);
  }
}

/** What is done with a container that runs. Its program has then done its part as well. */
async function perform(vm: IdleVm, containerId: ContainerId, output: Output, signal: AbortSignal): Promise<void> {
  await output.begun;
  const command = [program, 'child'];
  const { exitCode, stderr } = await execSync(
    vm.agent,
    { containerId, command, timeoutSeconds: 0, log: silentLog() },
    signal,
  );
  if (exitCode !== 0)
    throw new AppError('internal', `rehearsal: ${command.join(' ')} ended with ${String(exitCode)}: ${text(stderr)}`);
  await vm.agent.signalContainer(containerId, sigkill, true, signal);
}

/** The container's output, read to its exit. */
class Output {
  readonly #begun = Promise.withResolvers<undefined>();

  /** The first line is there. Fails when the program ends without one. */
  get begun(): Promise<undefined> {
    return this.#begun.promise;
  }

  async read(vm: IdleVm, id: ContainerId, signal: AbortSignal): Promise<void> {
    const errors: Uint8Array[] = [];
    try {
      for await (const { channel, data } of outputOf(vm, id, signal)) {
        if (channel === Channel.STDERR) errors.push(data);
        else if (data.length > 0) this.#begun.resolve(undefined);
      }
      this.#begun.reject(new AppError('internal', `rehearsal: the program has ended: ${text(...errors)}`));
    } catch (error) {
      this.#begun.reject(error);
      throw error;
    }
  }
}

function text(...parts: readonly Uint8Array[]): string {
  return Buffer.concat(parts).toString('utf8').trim();
}

const imageConfig: ImageConfig = {
  entrypoint: [],
  cmd: [],
  env: [],
  workingDir: '',
  user: '',
  stopSignal: '',
  volumes: [],
  labels: {},
};
