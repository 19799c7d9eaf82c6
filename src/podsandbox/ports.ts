/**
 * What the pod sandbox domain needs from the outside. Implementations live in src/vm, src/network
 * and src/image and do not import this file; src/main.ts says `satisfies`.
 */
import type { GuestAgent } from '../agent/guest-agent.ts';
import type { IdMappings } from './model.ts';
import type { Pressure } from './stats-model.ts';

/** An absolute path on the host. */
export type HostPath = string;

/** The agent of one guest, as far as the domain talks to it. */
export type Guest = Pick<
  GuestAgent,
  | 'hello'
  | 'configureSandbox'
  | 'adjustClock'
  | 'createContainer'
  | 'forgetImage'
  | 'startContainer'
  | 'signalContainer'
  | 'updateContainer'
  | 'updateSandbox'
  | 'removeContainer'
  | 'listContainers'
  | 'output'
  | 'exec'
  | 'writeStdin'
  | 'resizeTty'
  | 'portForward'
  | 'stats'
>;

// ------------------------------------------------------------------ virtual machines

/** Where a VM came from, fastest first. */
export type VmOrigin = 'pool' | 'clone' | 'cold';

export interface VmRequest {
  /** Name of a VM class in the configuration. */
  readonly className: string;
  /** What the pod asks for. A VM that the class cannot give is booted cold and bigger. */
  readonly vcpus?: number;
  readonly memoryBytes?: number;
}

/** What the guest has. */
export interface VmSize {
  readonly vcpus: number;
  readonly memoryBytes: number;
}

export interface VmExit {
  /** One line: exit code or signal of QEMU, and the last of its stderr and of the guest's serial console. */
  readonly reason: string;
  readonly at: Date;
}

/** Of QEMU as a whole on the host. 0 or empty leaves a limit alone, -1 lifts it. */
export interface VmLimits {
  /** On the scale of cgroup v1: 2 to 262144. */
  readonly cpuShares: bigint;
  /** Microseconds. */
  readonly cpuQuota: bigint;
  readonly cpuPeriod: bigint;
  readonly memoryBytes: bigint;
  readonly cpusetCpus: string;
  readonly cpusetMems: string;
}

export interface Traffic {
  readonly bytes: bigint;
  readonly packets: bigint;
  readonly errors: bigint;
  readonly dropped: bigint;
}

/** Of the host's groups and interfaces. Undefined where the host does not account for it. */
export interface VmUsage {
  /** Nanoseconds since the epoch. */
  readonly at: bigint;
  readonly cpuNs: bigint | undefined;
  readonly memory:
    | {
        readonly usage: bigint;
        readonly workingSet: bigint;
        readonly rss: bigint;
        readonly swap: bigint;
        readonly limit: bigint | undefined;
        readonly pageFaults: bigint;
        readonly majorPageFaults: bigint;
      }
    | undefined;
  readonly pressure: {
    readonly cpu: Pressure | undefined;
    readonly memory: Pressure | undefined;
    readonly io: Pressure | undefined;
  };
  /** Of the pod, without the loopback. */
  readonly interfaces: readonly { readonly name: string; readonly received: Traffic; readonly sent: Traffic }[];
}

/** A running virtual machine that belongs to one sandbox. */
export interface Vm {
  readonly id: string;
  readonly origin: VmOrigin;
  /** The id that its pod must have: a network was made for it. */
  readonly podId: string | undefined;
  readonly size: VmSize;
  /** Process id of QEMU in the host's pid namespace. */
  readonly pid: number;
  /** Network namespace that QEMU runs in, e.g. /run/netns/kelyfos-<id>. It holds a tap named tap0. */
  readonly netns: HostPath;
  /** Folder the guest sees as its 9p share. What is mounted there in QEMU's mount namespace the guest sees, too. */
  readonly share: HostPath;
  /** Mount tag of that share. */
  readonly shareTag: string;
  readonly agent: Guest;
  /** Resolves when QEMU is gone, whoever ended it. Never rejects. */
  readonly exited: Promise<VmExit>;
  /**
   * Moves QEMU below a pod's cgroup, named as in PodSandboxConfig. Empty leaves it where it is. `invalid`
   * for a name that the cgroup driver does not take.
   */
  joinCgroup(parent: string): Promise<void>;
  /** All limits, or none: failed-precondition for what the host does not take, such as memory below what QEMU holds. */
  limit(limits: VmLimits): Promise<void>;
  /**
   * Makes a file or block device of the host a read-only disk of the guest and returns its serial.
   * The file is hard-linked into the VM's folder: removing it elsewhere does no harm.
   */
  attachDisk(source: HostPath, signal: AbortSignal): Promise<string>;
  /** Makes a block device of the host a disk of the guest, whose serial is returned. Read-only unless `writable`. */
  attachBlockDevice(device: HostPath, writable: boolean, signal: AbortSignal): Promise<string>;
  /** Unknown serials are not an error. The guest must have unmounted it. */
  detachDisk(serial: string): Promise<void>;
  /** What it takes from the host. Answers at once, also when the guest hangs; an error when QEMU is gone. */
  usage(): Promise<VmUsage>;
  /** Ends QEMU (orderly quit, SIGTERM, SIGKILL), and removes folders and cgroup; the network namespace stays. Idempotent. */
  halt(): Promise<void>;
  /** `halt`, then removes its network namespace. Idempotent. */
  destroy(): Promise<void>;
}

export interface VmProvider {
  /** A VM that runs, answers, and belongs to the caller from now on. Times each step into `trace`. */
  claim(request: VmRequest, trace: StepTrace, signal: AbortSignal): Promise<Vm>;
  /**
   * The VM of an earlier daemon, or undefined when it is gone (what is left of it is then removed).
   * Its agent connects in the background; calls wait for it. `beforeRemoval` runs while the namespace
   * of a VM that is gone still exists.
   */
  adopt(vmId: string, beforeRemoval?: () => Promise<void>): Promise<Vm | undefined>;
  /** Deletes every VM, namespace and folder under the state directory that neither `owned` nor the pool holds. */
  sweep(owned: ReadonlySet<string>): Promise<readonly string[]>;
}

export interface VolumeBinding {
  readonly source: HostPath;
  /** A folder or file below the share that is there already, relative to the share. */
  readonly inShare: string;
  /** top: what is mounted below the source stays as writable as it is. */
  readonly readonly: 'no' | 'top' | 'all';
  /** slave: what is mounted below the source later appears as well. */
  readonly propagation: 'private' | 'slave';
  /** What owners on disk are to the guest, in both directions. Not for what is mounted below the source. */
  readonly owners?: IdMappings;
}

/**
 * Makes host folders and files, with what is mounted below them, appear below a VM's share, without any device
 * node or setuid file in them working there. Nothing is mounted on the host itself: the mounts are QEMU's own, and
 * go when their mount point below the share is removed.
 */
export interface VolumeBinder {
  bind(vm: Pick<Vm, 'pid'>, binding: VolumeBinding): Promise<void>;
}

/** Named steps with their durations, for "where the time went". Parts of a step go into the trace it is given. */
export interface StepTrace {
  step<T>(name: string, work: (parts: StepTrace) => Promise<T>): Promise<T>;
}

// ------------------------------------------------------------------ network

export interface PortMapping {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly containerPort: number;
  readonly hostPort: number;
  readonly hostIp: string;
}

export interface PodNetworkRequest {
  readonly sandboxId: string;
  readonly netns: HostPath;
  readonly podName: string;
  readonly podNamespace: string;
  readonly podUid: string;
  readonly cgroupParent: string;
  readonly portMappings: readonly PortMapping[];
  readonly dns: {
    readonly servers: readonly string[];
    readonly searches: readonly string[];
    readonly options: readonly string[];
  };
  /** Bits per second from the kubernetes.io/ingress-bandwidth and egress-bandwidth annotations. */
  readonly bandwidth?: { readonly ingressRate?: number; readonly egressRate?: number };
}

/** What the guest must be given, read from the namespace after CNI ADD. */
export interface PodNetwork {
  readonly interfaces: readonly {
    readonly name: string;
    readonly mac: string;
    readonly mtu: number;
    readonly addresses: readonly string[];
  }[];
  readonly routes: readonly {
    readonly destination: string;
    readonly gateway: string;
    readonly interface: string;
    readonly source: string;
    /** As rtnetlink: 0 global, 253 link. */
    readonly scope: number;
    readonly metric: number;
    readonly onlink: boolean;
    readonly mtu: number;
  }[];
  readonly neighbours: readonly { readonly address: string; readonly mac: string; readonly interface: string }[];
  /** Addresses without prefix length, the primary one first. */
  readonly ips: readonly string[];
}

export interface NetworkState {
  readonly ready: boolean;
  /** Reason and message as CRI conditions want them; empty when ready. */
  readonly reason: string;
  readonly message: string;
  /** The network's name and the file it came from, for `crictl info`. */
  readonly configuration?: unknown;
}

export interface PodNetworks {
  state(): NetworkState;
  /** Subnets that the cluster has given to this node, for plugins with the capability ipRanges. */
  setPodCidrs(cidrs: readonly string[]): void;
  /** CNI ADD, then joins the interface with the tap in both directions. Undoes what it did on any failure. */
  attach(request: PodNetworkRequest, signal: AbortSignal, trace: StepTrace): Promise<PodNetwork>;
  /** CNI DEL with the cached result of ADD. Idempotent; fine when the namespace or the result is gone. */
  detach(sandboxId: string, netns: HostPath): Promise<void>;
  /** `detach` of all that these sandboxes do not have; what cannot be undone is logged. */
  detachOthers(known: ReadonlySet<string>): Promise<void>;
}

// ------------------------------------------------------------------ images

export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly workingDir: string;
  /** As in the image: "", "user", "uid", "user:group", "uid:gid". */
  readonly user: string;
  readonly stopSignal: string;
  readonly volumes: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export interface Image {
  /** sha256:<hex>, the digest of the configuration. */
  readonly id: string;
  /** name:tag */
  readonly repoTags: readonly string[];
  /** name@sha256:... */
  readonly repoDigests: readonly string[];
  /** Bytes of the erofs image on disk. */
  readonly sizeBytes: bigint;
  readonly config: ImageConfig;
  readonly pinned: boolean;
  /** The OCI configuration as it is in the registry, for verbose status. */
  readonly spec: unknown;
}

export interface RegistryAuth {
  readonly username: string;
  readonly password: string;
  /** base64 of username:password, an alternative to the two above. */
  readonly auth: string;
  readonly serverAddress: string;
  readonly identityToken: string;
  readonly registryToken: string;
}

export interface FileSystemUsage {
  readonly usedBytes: bigint;
  readonly inodesUsed: bigint;
}

/** Images and writable layers are on the same file system. */
export interface ImageFileSystem {
  readonly mountpoint: HostPath;
  readonly images: FileSystemUsage;
  /** Writable layers, and images that were removed while containers use them. */
  readonly containers: FileSystemUsage;
  readonly at: Date;
}

export interface ImportedImage {
  readonly id: string;
  /** As the archive has them. */
  readonly tags: readonly string[];
}

/** Images as files. Cancelled by the signal. */
export interface ImageArchives {
  /** Archives of docker and OCI, compressed or not. `name` is for messages; `tag` replaces the name of a single image. */
  import(
    archive: AsyncIterable<Uint8Array>,
    name: string,
    tag: string | undefined,
    signal: AbortSignal,
  ): Promise<readonly ImportedImage[]>;
  /** By any reference that `Images.find` takes. */
  export(reference: string, format: 'oci' | 'docker', signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface Images {
  /** A folder on the file system that holds images and writable layers. */
  readonly mountpoint: HostPath;
  /** Pulls unless present; the id of the image. Cancelled by the signal. */
  pull(reference: string, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<string>;
  /** By id, prefix of an id, tag, digest or short name; undefined when absent. */
  find(reference: string): Image | undefined;
  list(): readonly Image[];
  /** Removes the image with all its names; absent is not an error. */
  remove(reference: string): Promise<void>;
  fsInfo(): Promise<ImageFileSystem>;
  /** The erofs file of an image. The domain links it into the VM's folder at once. */
  rootfs(id: string): HostPath;
}
