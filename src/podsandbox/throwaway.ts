import { randomBytes } from 'node:crypto';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { CreateContainerRequestSchema, OutputRecord } from '../agent/gen/agent/v1/agent_pb.js';
import { AckQueue } from './ack-queue.ts';
import { imageKey } from './container-disks.ts';
import { containerSpec } from './container-spec.ts';
import { guestSetup } from './guest-setup.ts';
import type { ContainerId } from './ids.ts';
import type { ContainerConfig, NamespaceOptions, SandboxConfig } from './model.ts';
import type { Image, PodNetwork, Vm } from './ports.ts';

/** A VM of the pool that has not been given to anybody. */
export type IdleVm = Pick<Vm, 'agent' | 'attachDisk' | 'detachDisk' | 'shareTag'> & {
  /** Leaves an attached disk to whoever attaches the same file next. */
  leaveDisk(source: string, serial: string): void;
};

const namespaces: NamespaceOptions = { network: 'pod', pid: 'container', ipc: 'pod', targetId: '' };

/** Makes a pod of a guest that is nobody's yet. ConfigureSandbox of the real claim replaces everything. */
export async function configureThrowaway(vm: IdleVm, signal: AbortSignal): Promise<void> {
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
}

/** A container's output up to its exit, acknowledged as the output pump does. */
export async function* outputOf(vm: IdleVm, id: ContainerId, signal: AbortSignal): AsyncGenerator<OutputRecord> {
  const acks = new AckQueue(id, 0n);
  try {
    for await (const record of vm.agent.output(acks, signal)) {
      acks.push(record.sequence);
      yield record;
      if (record.exit !== undefined) return;
    }
  } finally {
    acks.end();
  }
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

export type ThrowawaySpec = MessageInitShape<typeof CreateContainerRequestSchema>;

export interface ThrowawayContainer {
  readonly id: ContainerId;
  readonly image: Pick<Image, 'id' | 'config'>;
  /** Serial of the disk with the image. */
  readonly disk: string;
  readonly keepImage: boolean;
  /** Empty: the image's own. */
  readonly command: readonly string[];
  /** Files of the guest that it sees. */
  readonly guestFiles: readonly string[];
}

/** A container as most are: with a pid namespace of its own and no privileges beyond the default. */
export function throwawaySpec({ id, image, disk, keepImage, command, guestFiles }: ThrowawayContainer): ThrowawaySpec {
  const config: ContainerConfig = {
    metadata: { name: 'rehearsal', attempt: 0 },
    image: 'rehearsal',
    userSpecifiedImage: '',
    imageAnnotations: {},
    command,
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
    image,
    disks: [{ key: imageKey(image.id), serial: disk }],
    keepImage,
    devices: [],
    volumes: [],
    guestFiles,
    hostname: 'rehearsal',
    seccompProfile: undefined,
  });
}
