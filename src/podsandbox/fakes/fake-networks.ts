import { AppError } from '../../platform/errors.ts';
import type { NetworkState, PodNetwork, PodNetworkRequest, PodNetworks } from '../ports.ts';

export class FakeNetworks implements PodNetworks {
  readonly attached = new Map<string, PodNetworkRequest>();
  failNextAttach = false;
  failNextDetach = false;
  /** Runs in the middle of attach, where a caller may go away. */
  onAttach: () => void = () => undefined;

  podCidrs: readonly string[] = [];

  setPodCidrs(cidrs: readonly string[]): void {
    this.podCidrs = cidrs;
  }

  state(): NetworkState {
    return { ready: true, reason: '', message: '' };
  }

  attach(request: PodNetworkRequest): Promise<PodNetwork> {
    if (this.failNextAttach) {
      this.failNextAttach = false;
      return Promise.reject(new AppError('internal', 'attach fails as told'));
    }
    this.attached.set(request.sandboxId, request);
    this.onAttach();
    return Promise.resolve({
      interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1500, addresses: ['10.0.0.2/24'] }],
      routes: [],
      neighbours: [],
      ips: ['10.0.0.2'],
    });
  }

  detachOthers(known: ReadonlySet<string>): Promise<void> {
    for (const sandboxId of this.attached.keys()) if (!known.has(sandboxId)) this.attached.delete(sandboxId);
    return Promise.resolve();
  }

  detach(sandboxId: string): Promise<void> {
    if (this.failNextDetach) {
      this.failNextDetach = false;
      return Promise.reject(new AppError('internal', 'detach fails as told'));
    }
    this.attached.delete(sandboxId);
    return Promise.resolve();
  }
}
