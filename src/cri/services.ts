import type { Containers, PodSandboxes, ResourceUpdates } from '../podsandbox/model.ts';
import type { PodEvents } from '../podsandbox/pod-events.ts';
import type { ImageArchives, Images, PodNetworks } from '../podsandbox/ports.ts';
import type { PodStats } from '../podsandbox/stats-model.ts';
import type { HostRuntime } from './mixed/host-runtime.ts';
import type { StreamUrls } from './streaming/server.ts';

/** What the daemon says about itself. */
export interface RuntimeInfo {
  readonly version: string;
  /** Names of all handlers, the default one among them. */
  readonly handlers: readonly string[];
  readonly defaultHandler: string;
  readonly cgroupDriver: 'systemd' | 'cgroupfs';
  /** Whether volumes can be given to pods with a user namespace. */
  readonly mapsOwners: boolean;
  /** For `crictl info`: the effective configuration, QEMU, accelerator, pool and whatever else helps. */
  details(): Promise<Readonly<Record<string, unknown>>>;
}

/** Everything the handlers work with. */
export interface CriServices {
  readonly sandboxes: PodSandboxes;
  readonly containers: Containers;
  readonly resources: ResourceUpdates;
  readonly stats: PodStats;
  readonly events: PodEvents;
  readonly images: Images;
  readonly archives: ImageArchives;
  readonly networks: Pick<PodNetworks, 'state' | 'setPodCidrs'>;
  readonly streaming: StreamUrls;
  readonly runtime: RuntimeInfo;
  /** For pods that a virtual machine is no place for; without it they are refused. */
  readonly host?: HostRuntime | undefined;
}
