/**
 * Pod sandboxes and containers as the domain sees them: what the caller asked for (immutable), and
 * what became of it. src/cri translates between these and the CRI messages.
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { ContainerId, SandboxId } from './ids.ts';
import type { PortMapping } from './ports.ts';
import type { RequestTrace, TraceParent } from './trace-model.ts';

export type StringMap = Readonly<Record<string, string>>;

// ------------------------------------------------------------------ pod sandbox

export interface SandboxMetadata {
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  readonly attempt: number;
}

export type NamespaceMode = 'pod' | 'container' | 'node' | 'target';

/** `length` ids of a pod, from `containerId` on, are others outside of it, from `hostId` on. */
export interface IdMapping {
  readonly containerId: number;
  readonly hostId: number;
  readonly length: number;
}

export interface IdMappings {
  readonly uids: readonly IdMapping[];
  readonly gids: readonly IdMapping[];
}

/** As requested, echoed by PodSandboxStatus: a difference makes the kubelet recreate the pod. */
export interface NamespaceOptions {
  readonly network: NamespaceMode;
  readonly pid: NamespaceMode;
  readonly ipc: NamespaceMode;
  /** Container id, with pid "target". */
  readonly targetId: string;
  /** "node" is no user namespace, as is saying nothing. */
  readonly users?: 'node' | IdMappings;
}

export interface DnsConfig {
  readonly servers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
}

export interface SandboxConfig {
  readonly metadata: SandboxMetadata;
  readonly hostname: string;
  /** Absolute folder for container logs, or empty. */
  readonly logDirectory: string;
  readonly dns: DnsConfig | undefined;
  readonly portMappings: readonly PortMapping[];
  readonly labels: StringMap;
  readonly annotations: StringMap;
  readonly cgroupParent: string;
  readonly sysctls: StringMap;
  /** Whether it may have privileged containers. */
  readonly privileged: boolean;
  readonly namespaces: NamespaceOptions;
  /** Sum over the pod's containers plus overhead, when the kubelet says so; sizes the VM. */
  readonly resources: LinuxResources | undefined;
  readonly overhead: LinuxResources | undefined;
}

export type SandboxState = 'ready' | 'notready';

/** A snapshot; the service hands out fresh ones. */
export interface Sandbox {
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  /** As in RunPodSandbox: empty means the default handler. */
  readonly runtimeHandler: string;
  /** Nanoseconds since the epoch. */
  readonly createdAt: bigint;
  readonly state: SandboxState;
  /** Why it is not ready; empty when ready or stopped on request. */
  readonly reason: string;
  /** Primary address first; empty once the network is torn down. */
  readonly ips: readonly string[];
  readonly vmId: string;
  readonly vmOrigin: string;
  /** What the guest has in /etc/machine-id: 32 hex digits. */
  readonly machineId: string;
  /** Of QEMU, 0 when there is none. */
  readonly pid: number;
  readonly netns: string;
}

// ------------------------------------------------------------------ container

export interface ContainerMetadata {
  readonly name: string;
  readonly attempt: number;
}

/** 0 or empty leaves a limit alone. */
export interface LinuxResources {
  readonly cpuPeriod: bigint;
  readonly cpuQuota: bigint;
  readonly cpuShares: bigint;
  readonly memoryLimitBytes: bigint;
  readonly memorySwapLimitBytes: bigint;
  readonly oomScoreAdj: number;
  readonly cpusetCpus: string;
  readonly cpusetMems: string;
  readonly hugepageLimits: readonly { readonly pageSize: string; readonly limit: bigint }[];
  readonly unified: StringMap;
}

export type MountPropagation = 'private' | 'host-to-container' | 'bidirectional';

/** Another image as a volume. */
export interface MountImage {
  /** Any reference that ImageStatus would resolve. */
  readonly reference: string;
  readonly userSpecified: string;
  readonly annotations: StringMap;
  /** Relative path in the image; empty: all of it. */
  readonly subPath: string;
  /** sha256:<hex>, equal to Image.id; empty until the container is made. */
  readonly id: string;
}

export interface ContainerMount {
  readonly containerPath: string;
  /** Empty with an image. */
  readonly hostPath: string;
  readonly image?: MountImage;
  readonly readonly: boolean;
  readonly selinuxRelabel: boolean;
  readonly propagation: MountPropagation;
  readonly recursiveReadonly: boolean;
  /** What owners on disk are in the pod's virtual machine; those of its user namespace, for a pod that has one. */
  readonly owners?: IdMappings;
}

export interface ContainerDevice {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly permissions: string;
  /** What the node in the container has instead of the host's mode and owner. */
  readonly node?: { readonly mode?: number; readonly uid?: number; readonly gid?: number };
}

export interface SeccompSelection {
  readonly type: 'runtime-default' | 'unconfined' | 'localhost';
  /** Path on the host, with "localhost". */
  readonly localhostRef: string;
}

export interface ContainerSecurity {
  readonly privileged: boolean;
  /** Names with or without the CAP_ prefix; "ALL" is allowed in add and drop. */
  readonly capabilities: {
    readonly add: readonly string[];
    readonly drop: readonly string[];
    readonly addAmbient: readonly string[];
  };
  readonly namespaces: NamespaceOptions;
  readonly runAsUser: number | undefined;
  readonly runAsGroup: number | undefined;
  readonly runAsUsername: string;
  readonly supplementalGroups: readonly number[];
  readonly strictSupplementalGroups: boolean;
  readonly readonlyRootfs: boolean;
  readonly noNewPrivileges: boolean;
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  readonly seccomp: SeccompSelection;
}

export interface ContainerConfig {
  readonly metadata: ContainerMetadata;
  /** Any reference that ImageStatus would resolve. */
  readonly image: string;
  /** The name in the pod's specification, echoed. */
  readonly userSpecifiedImage: string;
  readonly imageAnnotations: StringMap;
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly workingDir: string;
  readonly env: readonly { readonly key: string; readonly value: string }[];
  readonly mounts: readonly ContainerMount[];
  readonly devices: readonly ContainerDevice[];
  /** Names as vendor/class=name. */
  readonly cdiDevices: readonly string[];
  readonly labels: StringMap;
  readonly annotations: StringMap;
  /** Relative to the sandbox's log directory; empty: no log file. */
  readonly logPath: string;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
  readonly tty: boolean;
  readonly resources: LinuxResources | undefined;
  readonly security: ContainerSecurity;
  /** Linux signal number, or undefined for the image's or SIGTERM. */
  readonly stopSignal: number | undefined;
}

export type ContainerState = 'created' | 'running' | 'exited' | 'unknown';

export interface Container {
  readonly id: ContainerId;
  readonly sandboxId: SandboxId;
  readonly config: ContainerConfig;
  readonly state: ContainerState;
  /** Nanoseconds since the epoch; 0 when it has not happened. */
  readonly createdAt: bigint;
  readonly startedAt: bigint;
  readonly finishedAt: bigint;
  readonly exitCode: number;
  /** Completed, Error, OOMKilled, StartError; empty unless exited. */
  readonly reason: string;
  readonly message: string;
  /** sha256:<hex>, equal to Image.id. */
  readonly imageId: string;
  /** name@sha256:... of the image when it has one, else its id. */
  readonly imageRef: string;
  /** Absolute, or empty without a log file. */
  readonly logPath: string;
  readonly user: { readonly uid: number; readonly gid: number; readonly supplementalGroups: readonly number[] };
  /** Effective: of the config, the image, or SIGTERM. */
  readonly stopSignal: number;
  /** In the guest; 0 unless running. */
  readonly pid: number;
  readonly resources: LinuxResources | undefined;
}

/** Of a pod as a whole: what its containers have together, and what the pod takes beside them. */
export interface SandboxResources {
  readonly resources: LinuxResources | undefined;
  readonly overhead: LinuxResources | undefined;
}

export interface ExecResult {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly exitCode: number;
}

export interface TerminalSize {
  /** In characters. */
  readonly width: number;
  readonly height: number;
}

/** What one interactive session reads and writes; absent ones were not asked for. */
export interface StreamSession {
  /** Its end is the end of input; destroyed when the client is gone. */
  readonly stdin: Readable | undefined;
  /** Writing waits while the client does not read. */
  readonly stdout: Writable | undefined;
  readonly stderr: Writable | undefined;
  /** Only with a terminal. */
  readonly resizes: AsyncIterable<TerminalSize> | undefined;
}

// ------------------------------------------------------------------ what the domain offers

/**
 * The domain's face towards src/cri. Ids are whole; resolve prefixes with `resolve*` first.
 * Every method throws AppError: not-found for unknown ids unless it says otherwise.
 */
export interface PodSandboxes {
  /** Undone completely when it fails or the signal aborts. */
  run(config: SandboxConfig, runtimeHandler: string, signal: AbortSignal, caller?: TraceParent): Promise<SandboxId>;
  /** Stops all containers at once, tears the network down, ends the VM. Idempotent; unknown ids are fine. */
  stop(id: string): Promise<void>;
  /** Stops if needed, then forgets it with all its containers. Unknown ids are fine. */
  remove(id: string): Promise<void>;
  get(id: string): Sandbox;
  /** What has not changed since is the same object as before, so that whoever makes something of it may keep that. */
  list(): readonly Sandbox[];
  /** Where the time of RunPodSandbox went; empty when that is not known. */
  traces(id: SandboxId): readonly RequestTrace[];
  /** The whole id that starts with `prefix`; undefined when there is none, `invalid` when there are several. */
  resolve(prefix: string): SandboxId | undefined;
  /**
   * Connects the stream with a TCP port on localhost inside the pod; resolves when both directions
   * have ended, rejects when nothing listens.
   */
  portForward(id: SandboxId, port: number, stream: Duplex, signal: AbortSignal): Promise<void>;
}

export interface Containers {
  create(
    sandboxId: SandboxId,
    config: ContainerConfig,
    signal: AbortSignal,
    caller?: TraceParent,
  ): Promise<ContainerId>;
  /** failed-precondition unless created. */
  start(id: ContainerId, signal: AbortSignal, caller?: TraceParent): Promise<void>;
  /** Stop signal, `timeoutSeconds` of grace, SIGKILL. Not running is fine; unknown ids are fine. */
  stop(id: string, timeoutSeconds: number, signal: AbortSignal): Promise<void>;
  /** Kills if it runs. Unknown ids are fine. */
  remove(id: string): Promise<void>;
  get(id: string): Container;
  /** As of sandboxes: what has not changed is the same object. */
  list(): readonly Container[];
  /** The same of CreateContainer and StartContainer, as far as they have happened. */
  traces(id: ContainerId): readonly RequestTrace[];
  resolve(prefix: string): ContainerId | undefined;
  /** failed-precondition unless running. */
  reopenLog(id: ContainerId): Promise<void>;
  /** `timeoutSeconds` 0 means none; `deadline` when it passes, and the whole tree is killed. */
  execSync(
    id: ContainerId,
    command: readonly string[],
    timeoutSeconds: number,
    signal: AbortSignal,
  ): Promise<ExecResult>;
  /**
   * Runs argv until it ends; rejects when it cannot be started. All output is handed to the writables,
   * which stay open, before this resolves.
   */
  exec(
    id: ContainerId,
    argv: readonly string[],
    tty: boolean,
    session: StreamSession,
    signal: AbortSignal,
  ): Promise<{ readonly exitCode: number }>;
  /**
   * Output from now on until the container ends or the signal aborts. What is read from stdin goes to
   * the container's first process.
   */
  attach(id: ContainerId, session: StreamSession, signal: AbortSignal): Promise<void>;
  /** What the container was made with; failed-precondition unless it is running. */
  interactive(id: ContainerId): { readonly tty: boolean; readonly stdin: boolean };
}

/**
 * Limits of what exists. failed-precondition for what the pod's VM is too small for, and for a memory
 * limit below what is in use.
 */
export interface ResourceUpdates {
  /** A container that has exited only remembers them. */
  container(id: ContainerId, change: LinuxResources, signal: AbortSignal): Promise<void>;
  sandbox(id: SandboxId, change: SandboxResources, signal: AbortSignal): Promise<void>;
}
