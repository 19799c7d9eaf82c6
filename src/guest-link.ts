import { GuestAgent } from './agent/guest-agent.ts';
import { canonicalName, parseReference } from './image/reference.ts';
import { AppError } from './platform/errors.ts';
import type { Log } from './platform/log.ts';
import type { NetworksAhead } from './network/networks-ahead.ts';
import { newSandboxId } from './podsandbox/ids.ts';
import type { Images } from './podsandbox/ports.ts';
import { rehearse } from './podsandbox/rehearsal.ts';
import { warmImage } from './podsandbox/warm-image.ts';
import type { GuestLink } from './vm/guest-link.ts';

/** Calls after which the agent's code, and under emulation its translation, is warm. */
const warmCalls = 8;

/** What src/vm does with guests before pods get them, in terms of the agent and the domain, which it does not know. */
export function guestLink(
  rehearsalImage: string,
  images: Pick<Images, 'find' | 'rootfs'>,
  networks: Pick<NetworksAhead, 'version' | 'make' | 'giveBack'>,
  log: Log,
): GuestLink<GuestAgent> {
  return {
    connect: (sockets, vmId) => GuestAgent.connect(sockets, log.child({ vmId })),
    ready: async (agent, signal) => {
      await agent.hello(signal);
    },
    awake: async (agent, signal) => {
      await agent.connected(signal);
      void agent.hello().catch((error: unknown) => {
        // Whoever claims the guest calls it next and gets the error.
        log.debug({ err: error }, 'the first call to a clone failed');
      });
    },
    warm: async ({ agent }, signal) => {
      for (let call = 0; call < warmCalls; call += 1) await agent.hello(signal);
      await agent.trim(true, signal);
    },
    rehearse: (vm, signal) => rehearse(vm, rehearsalImage, signal),
    imagesHere: (names) => names.flatMap((name) => images.find(fullName(name))?.id ?? []),
    warmImages: async (vm, ids, signal) => {
      for (const id of ids) {
        const image = images.find(id);
        if (image !== undefined) await warmImage(vm, image, images.rootfs(id), log.child({ vmId: vm.id }), signal);
      }
    },
    networkAhead: () => networks.version,
    newPodId: newSandboxId,
    attachNetwork: (podId, vm, signal) => networks.make(podId, vm.netns, signal),
    detachNetwork: (podId, vm) => networks.giveBack(podId, vm.netns),
  };
}

/** The name of an image with nothing left to defaults; an error for an id, which no image is pulled by. */
export function fullName(name: string): string {
  const reference = parseReference(name);
  if (reference.kind === 'id') throw new AppError('invalid', `${name} is the id of an image, not a name`);
  return canonicalName(reference);
}
