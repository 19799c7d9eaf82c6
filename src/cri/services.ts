import type { Containers, PodSandboxes } from '../podsandbox/model.ts';
import type { Images, PodNetworks } from '../podsandbox/ports.ts';

/** Whether the runtime as a whole can take work; reason and message are empty when it can. */
export interface Readiness {
  readonly ready: boolean;
  /** One CamelCase word. */
  readonly reason: string;
  readonly message: string;
}

/** What the daemon says about itself. */
export interface RuntimeInfo {
  readonly version: string;
  /** Names of all handlers, the default one among them. */
  readonly handlers: readonly string[];
  readonly defaultHandler: string;
  readonly cgroupDriver: 'systemd' | 'cgroupfs';
  /** Cheap: asked every few seconds. */
  readiness(): Readiness;
  /** For `crictl info`: the effective configuration, QEMU, accelerator, pool and whatever else helps. */
  details(): Promise<Readonly<Record<string, unknown>>>;
}

/** Everything the handlers work with. */
export interface CriServices {
  readonly sandboxes: PodSandboxes;
  readonly containers: Containers;
  readonly images: Images;
  readonly networks: Pick<PodNetworks, 'state'>;
  readonly runtime: RuntimeInfo;
}
