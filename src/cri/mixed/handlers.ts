import type { StreamHandler, UnaryHandler } from '../call.ts';
import type { CriServices } from '../services.ts';
import { byOwner, callsByOwner } from './by-owner.ts';
import { containerEvents } from './events.ts';
import { HostImages } from './host-images.ts';
import type { HostRuntime } from './host-runtime.ts';
import { imageFsInfo, imageStatus, pullImage, removeImage } from './images.ts';
import { mergedList, mergedLists, mergedStream, mergedStreams } from './lists.ts';
import { listMetricDescriptors } from './metrics.ts';
import { Owners } from './owners.ts';
import { createContainer, runPodSandbox } from './pods.ts';
import { relayedPortForward } from './port-forward.ts';
import { status, updateRuntimeConfig } from './runtime.ts';

// As in ../implementation.ts: which type belongs to which call is written in each handler.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyUnary = UnaryHandler<any, any>;
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyStream = StreamHandler<any, any>;

type Decorators<Handler> = Readonly<Record<string, (own: Handler) => Handler>>;

/** Puts round our handler of a call what the host runtime has to do with it. */
export interface MixedHandlers {
  unary(rpc: string, own: AnyUnary): AnyUnary;
  stream(rpc: string, own: AnyStream): AnyStream;
}

export function mixedHandlers(services: CriServices, host: HostRuntime): MixedHandlers {
  const owners = new Owners(services, host);
  const images = new HostImages(services, host);
  const unaries: Decorators<AnyUnary> = {
    ...mapValues(callsByOwner, (_field, rpc) => (own) => byOwner(rpc, own, owners, host)),
    ...mapValues(mergedLists, (list) => (own) => mergedList(list, own, host)),
    PortForward: (own) =>
      byOwner('PortForward', own, owners, host, (response) => relayedPortForward(response, services)),
    RunPodSandbox: (own) => runPodSandbox(own, host),
    CreateContainer: (own) => createContainer(own, services, host, { owners, images }),
    PullImage: (own) => pullImage(own, services, host, images),
    ImageStatus: (own) => imageStatus(own, services, images),
    RemoveImage: (own) => removeImage(own, services, images),
    ImageFsInfo: (own) => imageFsInfo(own, host),
    Status: (own) => status(own, host),
    UpdateRuntimeConfig: (own) => updateRuntimeConfig(own, host),
    ListMetricDescriptors: (own) => listMetricDescriptors(own, host),
  };
  const streams: Decorators<AnyStream> = {
    ...mapValues(mergedStreams, (list) => (own) => mergedStream(list, own, host)),
    GetContainerEvents: (own) => containerEvents(own, host),
  };
  return {
    unary: (rpc, own) => unaries[rpc]?.(own) ?? own,
    stream: (rpc, own) => streams[rpc]?.(own) ?? own,
  };
}

function mapValues<Key extends string, From, To>(
  record: Readonly<Record<Key, From>>,
  change: (value: From, key: Key) => To,
): Readonly<Record<Key, To>> {
  const entries = Object.entries(record) as [Key, From][];
  return Object.fromEntries(entries.map(([key, value]) => [key, change(value, key)])) as Record<Key, To>;
}
