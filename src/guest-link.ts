import { GuestAgent } from './agent/guest-agent.ts';
import type { Log } from './platform/log.ts';
import { rehearse } from './podsandbox/rehearsal.ts';
import type { GuestLink } from './vm/guest-link.ts';

/** Calls after which the agent's code, and under emulation its translation, is warm. */
const warmCalls = 8;

/** What src/vm does with guests before pods get them, in terms of the agent and the domain, which it does not know. */
export function guestLink(rehearsalImage: string, log: Log): GuestLink<GuestAgent> {
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
  };
}
