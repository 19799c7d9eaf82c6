import { mkdir, readFile } from 'node:fs/promises';
import { availableParallelism, hostname } from 'node:os';
import { join } from 'node:path';
import type { GuestAgent } from './agent/guest-agent.ts';
import type { RunningDaemon } from './cli/daemon-command.ts';
import type { Config } from './config/config.ts';
import type { LoadedConfig } from './config/load.ts';
import { CriClient } from './cri/client.ts';
import type { HostRuntime as HostRuntimePort } from './cri/mixed/host-runtime.ts';
import { serveCri } from './cri/server.ts';
import type { RuntimeInfo } from './cri/services.ts';
import { type StreamingDomain, StreamingServer } from './cri/streaming/server.ts';
import { fullName, guestLink } from './guest-link.ts';
import { HostRuntime } from './host/host-runtime.ts';
import { RegistryImages } from './image/images.ts';
import { makeRehearsalImage } from './image/rehearsal-image.ts';
import { NetworkNamespaces } from './network/network-namespaces.ts';
import { Networker } from './network/networker.ts';
import { NetworksAhead } from './network/networks-ahead.ts';
import { CniPodNetworks } from './network/pod-networks.ts';
import { isFile, isFolder } from './platform/file-kind.ts';
import { wrap } from './platform/errors.ts';
import type { Log } from './platform/log.ts';
import { createDomain, type Domain } from './podsandbox/domain.ts';
import type { ImageArchives, Images, PodNetworks, VmProvider, VolumeBinder } from './podsandbox/ports.ts';
import type { TraceSink } from './podsandbox/trace-model.ts';
import { Store } from './store/store.ts';
import { OtlpExporter } from './tracing/otlp-exporter.ts';
import { programVersion } from './version.ts';
import { JailerBinder } from './vm/jailer-binder.ts';
import { openProvider, type OpenProvider } from './vm/open-provider.ts';

/** Calls in flight get this long when the daemon is asked to end; it must be gone after 5 s. */
const callGraceMs = 1_500;
/** While one pod waits, for a CNI plugin or the disk, another one can work. */
const startsPerProcessor = 2;
/** A cold boot takes some 10 s under emulation, several times that on a busy machine. */
const bootTimeoutMs = 120_000;

/**
 * Builds the services from the configuration, recovers what an earlier daemon left, and serves CRI.
 * The root is locked already.
 */
export async function startDaemon(loaded: LoadedConfig, log: Log): Promise<RunningDaemon> {
  const { config } = loaded;
  checkWarmImages(config);
  await using started = new AsyncDisposableStack();
  await prepareFolders(config);

  const store = Store.open(join(config.root, 'state.lmdb'));
  started.defer(() => store.close());

  const networker = new Networker({ program: config.cni.networker, log: log.child({ part: 'network' }) });
  started.defer(() => {
    networker.close();
  });
  const namespaces = new NetworkNamespaces({ networker, markerDir: join(config.state, 'netns') });
  const cni = new CniPodNetworks({
    networker,
    confDir: config.cni.confDir,
    binDirs: config.cni.binDirs,
    cacheDir: join(config.state, 'cni', 'results'),
    attachAhead: config.cni.attachAhead,
    log: log.child({ part: 'network' }),
  });
  await cni.start();
  started.defer(() => cni.close());
  const networks = new NetworksAhead({
    networks: cni,
    reservedDir: join(config.root, 'cni', 'reserved'),
    log: log.child({ part: 'network' }),
  });
  await networks.start();
  started.defer(() => networks.close());

  const images = await openImages(config, log);
  const cgroupDriver = await chooseCgroupDriver(config);
  const vms = await openVms(config, images, networks, namespaces, cgroupDriver, log.child({ part: 'vm' }));
  started.defer(() => vms.close());

  const exporter = openExporter(config, log.child({ part: 'tracing' }));
  if (exporter !== undefined) started.defer(() => exporter.close(callGraceMs));

  const binder = new JailerBinder(config.vm.jailer);
  const domain = createDomain({
    store,
    vms: vms.provider satisfies VmProvider,
    networks: networks satisfies PodNetworks,
    images: images satisfies Images,
    binder: binder satisfies VolumeBinder,
    cdiFolders: config.cdi.specDirs,
    handlers: new Map([...config.handlers].map(([name, { name: className }]) => [name, { className }])),
    defaultHandler: config.defaultHandler,
    concurrentStarts: config.vm.concurrentStarts || startsPerProcessor * availableParallelism(),
    traceSink: exporter satisfies TraceSink | undefined,
    log: log.child({ part: 'podsandbox' }),
  });
  started.defer(() => domain.close());
  const recovered = await domain.recover();
  await vms.provider.start();

  const host = await openHostRuntime(config, images, log.child({ part: 'host' }));
  if (host !== undefined) started.defer(() => host.close());

  const { sandboxes, containers, resources, stats, events } = domain;
  const streaming = await startStreaming(config, { sandboxes, containers }, log);
  started.defer(() => streaming.close(callGraceMs));
  const runtime = runtimeInfo(loaded, vms, domain, cgroupDriver, await mapsOwners(binder, config, log));
  const server = await serveCri(
    config.socket,
    {
      ...{ sandboxes, containers, resources, stats, events, images, networks, streaming, runtime },
      archives: images satisfies ImageArchives,
      host: host satisfies HostRuntimePort | undefined,
    },
    log.child({ part: 'cri' }),
  );
  started.defer(() => server.close(callGraceMs));

  const network = networks.state();
  log.info(
    {
      version: programVersion(),
      socket: config.socket,
      ...describe(vms),
      pools: vms.provider.pools(),
      cni: network.ready ? 'ready' : network.message,
      ...recovered,
    },
    'kelyfos is ready',
  );
  const parts = started.move();
  return { close: () => parts.disposeAsync() };
}

/** What the configuration alone cannot tell. */
function checkWarmImages({ vm }: Config): void {
  for (const { name, warmImages } of vm.classes.values()) {
    for (const image of warmImages) {
      try {
        fullName(image);
      } catch (error) {
        throw wrap(error, `vm.classes.${name}.warm_images`);
      }
    }
  }
}

async function prepareFolders({ root, state }: Config): Promise<void> {
  // Others may pass through to what is theirs: a VM's user to its own folder.
  for (const folder of [root, state]) await mkdir(folder, { recursive: true, mode: 0o711 });
}

async function openImages(config: Config, log: Log): Promise<RegistryImages> {
  const {
    registriesConf,
    registriesD,
    policy,
    pinned,
    skopeo,
    mkfsErofs,
    unpacker,
    maxUnpackedBytes,
    progressTimeoutMs,
  } = config.images;
  const secretsDir = join(config.state, 'secrets');
  await mkdir(secretsDir, { recursive: true, mode: 0o700 });
  return RegistryImages.open({
    folder: join(config.root, 'images'),
    skopeo,
    mkfsErofs,
    unpacker,
    ...((await isFile(registriesConf)) ? { registriesConf } : {}),
    ...((await isFolder(registriesD)) ? { registriesD } : {}),
    ...((await isFile(policy)) ? { policy } : {}),
    pinned,
    disksFolder: join(config.root, 'vms'),
    maxUnpackedBytes,
    stallMs: progressTimeoutMs,
    secretsDir,
    log: log.child({ part: 'image' }),
  });
}

async function openVms(
  config: Config,
  images: RegistryImages,
  networks: NetworksAhead,
  netns: NetworkNamespaces,
  cgroupDriver: RuntimeInfo['cgroupDriver'],
  log: Log,
): Promise<OpenProvider<GuestAgent>> {
  const rehearsalImage = join(config.root, 'rehearsal.erofs');
  const { mkfsErofs, maxUnpackedBytes } = config.images;
  await makeRehearsalImage({ path: rehearsalImage, mkfsErofs, bytes: maxUnpackedBytes });
  return openProvider({
    root: config.root,
    state: config.state,
    accelerator: config.vm.accelerator,
    qemu: config.vm.qemu,
    jailer: config.vm.jailer,
    guestImage: config.vm.guest,
    classes: [...config.vm.classes.values()],
    netns,
    cgroupDriver,
    guest: guestLink(rehearsalImage, images, networks, log),
    imageBytes: maxUnpackedBytes,
    bootTimeoutMs,
    memoryReserveBytes: config.vm.memoryReserveBytes,
    log,
  });
}

async function openHostRuntime(
  { root, hostRuntime }: Config,
  images: RegistryImages,
  log: Log,
): Promise<HostRuntime | undefined> {
  if (hostRuntime === undefined) return undefined;
  const { endpoint, handler, handlers } = hostRuntime;
  return HostRuntime.open({
    calls: new CriClient(endpoint.replace(/^unix:\/\//, '')),
    endpoint,
    owner: root,
    file: join(root, 'host-pods.json'),
    handler,
    handlers,
    images: { imageId: (reference) => images.find(reference)?.id },
    log,
  });
}

function openExporter({ tracing: { endpoint } }: Config, log: Log): OtlpExporter | undefined {
  if (endpoint === undefined) return undefined;
  return new OtlpExporter({ endpoint, version: programVersion(), hostName: hostname(), log });
}

/** The facts an operator asks for first. */
function describe({
  accelerator,
  qemuVersion,
  guestImage,
}: OpenProvider<GuestAgent>): Readonly<Record<string, string>> {
  return { accelerator, qemu: qemuVersion, kernel: guestImage.kernelRelease, agent: guestImage.agentVersion };
}

async function startStreaming({ streaming }: Config, domain: StreamingDomain, log: Log): Promise<StreamingServer> {
  const { address, port, tls: files } = streaming;
  const tls = files && { cert: await readFile(files.certFile, 'utf8'), key: await readFile(files.keyFile, 'utf8') };
  return StreamingServer.start({ address, port, tls }, domain, log.child({ part: 'streaming' }));
}

/** As systemd's own sd_booted(3) finds out. */
async function chooseCgroupDriver({ cgroupDriver }: Config): Promise<RuntimeInfo['cgroupDriver']> {
  if (cgroupDriver !== 'auto') return cgroupDriver;
  return (await isFolder('/run/systemd/system')) ? 'systemd' : 'cgroupfs';
}

/** The root stands for the kubelet's volumes, which are on the same file system on most nodes. */
async function mapsOwners(binder: JailerBinder, { root }: Config, log: Log): Promise<boolean> {
  const obstacle = await binder.obstacleToMapping(root);
  if (obstacle !== undefined)
    log.warn({ reason: obstacle }, 'user namespaces are not announced: this host cannot map the owners of volumes');
  return obstacle === undefined;
}

function runtimeInfo(
  { config, file }: LoadedConfig,
  vms: OpenProvider<GuestAgent>,
  { admission }: Pick<Domain, 'admission'>,
  cgroupDriver: RuntimeInfo['cgroupDriver'],
  mapsOwners: boolean,
): RuntimeInfo {
  return {
    version: programVersion(),
    handlers: [...config.handlers.keys()],
    defaultHandler: config.defaultHandler,
    cgroupDriver,
    mapsOwners,
    details: () =>
      Promise.resolve({
        config: file,
        ...describe(vms),
        pools: { classes: vms.provider.pools(), memoryShortage: vms.provider.memoryShortage },
        starts: admission.state,
      }),
  };
}
