import type { LogLevel } from '../platform/log.ts';
import type { ConfigFile } from './schema.ts';
import { parseDuration, parseSize } from './units.ts';

/** Size and options of the VMs that a handler makes. */
export interface VmClass {
  readonly name: string;
  readonly vcpus: number;
  /** A ceiling: guest memory costs nothing until it is written. */
  readonly memoryBytes: number;
  /** Room for the writable layers of a pod, sparse. */
  readonly scratchBytes: number;
  /** Paused clones to keep ready, however little is asked for. */
  readonly poolSize: number;
  /** And however much. */
  readonly poolMax: number;
  /** Make VMs as clones of a template; without it each one boots. */
  readonly template: boolean;
  /** Let pooled clones perform a whole dummy claim before they are paused. */
  readonly rehearse: boolean;
  /** Names of images that pooled clones hold ready. */
  readonly warmImages: readonly string[];
  /** Room for translated code under emulation. */
  readonly translationBytes: number;
  /** Handed to QEMU after our own arguments. */
  readonly qemuArguments: readonly string[];
}

/** Another CRI runtime of the node. */
export interface HostRuntimeConfig {
  readonly endpoint: string;
  /** Its handler for pods that use a namespace of the host; "" is its default one. */
  readonly handler: string;
  /** Our handlers that stand for it, and the handler there that each one means. */
  readonly handlers: ReadonlyMap<string, string>;
}

/** The configuration as the rest of the daemon takes it: units resolved, names checked, frozen. */
export interface Config {
  readonly root: string;
  readonly state: string;
  readonly socket: string;
  readonly defaultHandler: string;
  readonly cgroupDriver: 'auto' | 'systemd' | 'cgroupfs';
  readonly logLevel: LogLevel;
  readonly cni: {
    readonly confDir: string;
    readonly binDirs: readonly string[];
    readonly attachAhead: boolean;
    readonly networker: string;
  };
  readonly cdi: { readonly specDirs: readonly string[] };
  readonly images: {
    readonly registriesConf: string;
    readonly registriesD: string;
    readonly policy: string;
    readonly pinned: readonly string[];
    readonly maxUnpackedBytes: number;
    readonly progressTimeoutMs: number;
    readonly skopeo: string;
    readonly mkfsErofs: string;
    readonly unpacker: string;
  };
  readonly vm: {
    readonly accelerator: 'auto' | 'kvm' | 'tcg';
    readonly qemu: string;
    readonly jailer: string;
    readonly guest: string;
    /** 0: as many as suit the host. */
    readonly concurrentStarts: number;
    readonly memoryReserveBytes: number;
    readonly classes: ReadonlyMap<string, VmClass>;
  };
  /** Handler name to the VM class it stands for. The default handler is among them. */
  readonly handlers: ReadonlyMap<string, VmClass>;
  readonly hostRuntime: HostRuntimeConfig | undefined;
  readonly streaming: {
    readonly address: string;
    readonly port: number;
    /** Files in PEM; undefined: plain HTTP. */
    readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined;
  };
  readonly metrics: { readonly address: string };
  /** Of a collector of OpenTelemetry. */
  readonly tracing: { readonly endpoint: string | undefined };
}

/** The schema has checked the text already. */
function bytes(text: string): number {
  return parseSize(text) ?? Number.NaN;
}

function milliseconds(text: string): number {
  return parseDuration(text) ?? Number.NaN;
}

function compileStreaming(file: ConfigFile['streaming']): Config['streaming'] {
  const { address, port, tls_cert_file: certFile, tls_key_file: keyFile } = file;
  const tls = certFile === undefined || keyFile === undefined ? undefined : { certFile, keyFile };
  return { address, port, tls };
}

/** Units resolved and references followed; `checkReferences` has found nothing. */
export function compileConfig(file: ConfigFile): Config {
  const classes = new Map<string, VmClass>(
    Object.entries(file.vm.classes).map(([name, vmClass]) => [
      name,
      Object.freeze({
        name,
        vcpus: vmClass.vcpus,
        memoryBytes: bytes(vmClass.memory),
        scratchBytes: bytes(vmClass.scratch),
        poolSize: vmClass.pool,
        poolMax: vmClass.pool_max ?? vmClass.pool,
        template: vmClass.template,
        rehearse: vmClass.rehearse,
        warmImages: vmClass.warm_images,
        translationBytes: bytes(vmClass.translation_buffer),
        qemuArguments: vmClass.qemu_arguments,
      }),
    ]),
  );
  const handlers = new Map<string, VmClass>();
  const hostHandlers = new Map<string, string>();
  for (const [name, handler] of Object.entries(file.handlers)) {
    const vmClass = classes.get(handler.class);
    if (handler.runtime === 'host') hostHandlers.set(name, handler.host_handler ?? file.host_runtime.handler);
    else if (vmClass !== undefined) handlers.set(name, vmClass);
  }
  const { endpoint, handler: hostHandler } = file.host_runtime;
  return Object.freeze({
    root: file.root,
    state: file.state,
    socket: file.socket,
    defaultHandler: file.default_handler,
    cgroupDriver: file.cgroup_driver,
    logLevel: file.log.level,
    cni: {
      confDir: file.cni.conf_dir,
      binDirs: file.cni.bin_dirs,
      attachAhead: file.cni.attach_ahead,
      networker: file.cni.networker,
    },
    cdi: { specDirs: file.cdi.spec_dirs },
    images: {
      registriesConf: file.images.registries_conf,
      registriesD: file.images.registries_d,
      policy: file.images.policy,
      pinned: file.images.pinned,
      maxUnpackedBytes: bytes(file.images.max_unpacked),
      progressTimeoutMs: milliseconds(file.images.progress_timeout),
      skopeo: file.images.skopeo,
      mkfsErofs: file.images.mkfs_erofs,
      unpacker: file.images.unpacker,
    },
    vm: {
      accelerator: file.vm.accelerator,
      qemu: file.vm.qemu,
      jailer: file.vm.jailer,
      guest: file.vm.guest,
      concurrentStarts: file.vm.concurrent_starts,
      memoryReserveBytes: bytes(file.vm.memory_reserve),
      classes,
    },
    handlers,
    hostRuntime: endpoint === undefined ? undefined : { endpoint, handler: hostHandler, handlers: hostHandlers },
    streaming: compileStreaming(file.streaming),
    metrics: file.metrics,
    tracing: { endpoint: file.tracing.endpoint },
  });
}
