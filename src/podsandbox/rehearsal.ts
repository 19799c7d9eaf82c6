import { randomBytes } from 'node:crypto';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Channel, type CreateContainerRequestSchema } from '../agent/gen/agent/v1/agent_pb.js';
import { AppError } from '../platform/errors.ts';
import { silentLog } from '../platform/log.ts';
import { AckQueue } from './ack-queue.ts';
import { imageKey } from './container-disks.ts';
import { containerSpec } from './container-spec.ts';
import { execSync } from './exec-sync.ts';
import { guestSetup } from './guest-setup.ts';
import { newContainerId } from './ids.ts';
import type { ContainerConfig, NamespaceOptions, SandboxConfig } from './model.ts';
import type { ImageConfig, PodNetwork, Vm } from './ports.ts';
import { sigkill } from './signals.ts';

/** A VM of the pool that has not been given to anybody. */
export type IdleVm = Pick<Vm, 'agent' | 'attachDisk' | 'detachDisk' | 'shareTag'>;

/**
 * Does what programs do when they start and writes a line; then it waits if told to by the argument `wait`. The guest
 * image brings it, so that the pages with its code stay in use: under emulation each block that was translated from a
 * page is thrown away when the page is used for something else, and that would be while the pod's container is made.
 */
const program = '/bin/rehearse';

const namespaces: NamespaceOptions = { network: 'pod', pid: 'container', ipc: 'pod', targetId: '' };

/**
 * Goes through a whole claim with a throw-away container, so that the guest's kernel and agent, and
 * under emulation QEMU's translated code, are warm when the real one comes. Leaves the guest without
 * a trace of it: ConfigureSandbox of the real claim replaces everything, the container is removed.
 */
export async function rehearse(vm: IdleVm, image: string, signal: AbortSignal): Promise<void> {
  const id = newContainerId();
  await vm.agent.configureSandbox(
    guestSetup({
      config: sandbox,
      network,
      shareTag: vm.shareTag,
      machineId: '0'.repeat(32),
      entropy: randomBytes(32),
    }),
    signal,
  );
  const disk = await vm.attachDisk(image, signal);
  try {
    await vm.agent.createContainer(spec(id, disk), signal);
    await vm.agent.startContainer(id, signal);
    const output = new Output();
    // Together: when the rehearsal is called off, all fail, and none may do so unheard.
    await Promise.all([output.read(vm, id, signal), perform(vm, id, output.begun, signal)]);
    await vm.agent.removeContainer(id, signal);
  } finally {
    await vm.detachDisk(disk);
  }
}

/** What is done with a container that runs. Its program has then done its part as well. */
async function perform(vm: IdleVm, containerId: string, begun: Promise<undefined>, signal: AbortSignal): Promise<void> {
  await begun;
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

/** The container's output, read to its exit, as the output pump does. */
class Output {
  readonly #begun = Promise.withResolvers<undefined>();
  readonly #errors: Uint8Array[] = [];

  /** Fails when the program ends without a line. */
  get begun(): Promise<undefined> {
    return this.#begun.promise;
  }

  async read(vm: IdleVm, id: string, signal: AbortSignal): Promise<void> {
    const acks = new AckQueue(id, 0n);
    try {
      for await (const { sequence, exit, channel, data } of vm.agent.output(acks, signal)) {
        acks.push(sequence);
        if (channel === Channel.STDERR) this.#errors.push(data);
        else if (data.length > 0) this.#begun.resolve(undefined);
        if (exit !== undefined) break;
      }
      this.#begun.reject(new AppError('internal', `rehearsal: the program has ended: ${text(...this.#errors)}`));
    } catch (error) {
      this.#begun.reject(error);
      throw error;
    } finally {
      acks.end();
    }
  }
}

function text(...parts: readonly Uint8Array[]): string {
  return Buffer.concat(parts).toString('utf8').trim();
}

const sandbox: SandboxConfig = {
  metadata: { name: 'rehearsal', uid: '', namespace: '', attempt: 0 },
  hostname: 'rehearsal',
  logDirectory: '',
  dns: { servers: ['192.0.2.1'], searches: ['rehearsal.invalid'], options: [] },
  portMappings: [],
  labels: {},
  annotations: {},
  cgroupParent: '',
  sysctls: {},
  privileged: false,
  namespaces,
  resources: undefined,
  overhead: undefined,
};

/** Documentation addresses (RFC 5737): nothing is ever sent, the tap is not joined to anything yet. */
const network: PodNetwork = {
  interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1500, addresses: ['192.0.2.2/24'] }],
  routes: [
    {
      destination: '0.0.0.0/0',
      gateway: '192.0.2.1',
      interface: 'eth0',
      source: '',
      scope: 0,
      metric: 0,
      onlink: false,
      mtu: 0,
    },
  ],
  neighbours: [],
  ips: ['192.0.2.2'],
};

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

function spec(
  id: ReturnType<typeof newContainerId>,
  disk: string,
): MessageInitShape<typeof CreateContainerRequestSchema> {
  const config: ContainerConfig = {
    metadata: { name: 'rehearsal', attempt: 0 },
    image: 'rehearsal',
    userSpecifiedImage: '',
    imageAnnotations: {},
    command: [program, 'wait'],
    args: [],
    workingDir: '',
    env: [],
    mounts: [],
    devices: [],
    cdiDevices: [],
    labels: {},
    annotations: {},
    logPath: '',
    stdin: false,
    stdinOnce: false,
    tty: false,
    resources: undefined,
    security: {
      privileged: false,
      capabilities: { add: [], drop: [], addAmbient: [] },
      namespaces,
      runAsUser: undefined,
      runAsGroup: undefined,
      runAsUsername: '',
      supplementalGroups: [],
      strictSupplementalGroups: false,
      readonlyRootfs: false,
      noNewPrivileges: false,
      maskedPaths: ['/proc/kcore', '/proc/timer_list'],
      readonlyPaths: ['/proc/sys', '/proc/bus'],
      seccomp: { type: 'runtime-default', localhostRef: '' },
    },
    stopSignal: undefined,
  };
  return containerSpec({
    id,
    config,
    image: { id: '', config: imageConfig },
    disks: [{ key: imageKey(''), serial: disk }],
    devices: [],
    volumes: [],
    guestFiles: [program],
    hostname: 'rehearsal',
    seccompProfile: undefined,
  });
}
