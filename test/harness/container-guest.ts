import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Client } from '@connectrpc/connect';
import { execa } from 'execa';
import type { GuestAgent } from '../../src/agent/guest-agent.ts';
import type { Agent } from '../../src/agent/gen/agent/v1/agent_pb.js';
import { AgentSession } from '../../src/agent/session.ts';
import { type BareGuest, startBareGuest } from './bare-guest.ts';
import { freeFolder, removeFolder } from './free-folder.ts';
import { busyboxErofs } from './guest-containers.ts';

const checkout = join(import.meta.dirname, '../..');
const nanosPerMs = 1_000_000n;
const handshakeMs = 2_000;

/** A guest that is configured as a pod, with a busybox image in slot 0. */
export interface ContainerGuest extends AsyncDisposable {
  readonly guest: BareGuest;
  /** Of the current session. */
  client(): Client<typeof Agent>;
  /** Cuts the session off and opens another. */
  reconnect(): Promise<void>;
  /** Ends the session, and the client with it: from now on the guest is this agent's. */
  agent(): Promise<GuestAgent>;
}

export async function startContainerGuest(fill: (root: string) => Promise<void>): Promise<ContainerGuest> {
  await execa(join(checkout, 'guest/image/build'), { timeout: 900_000 });
  const { stdout: tools } = await execa(join(checkout, 'scripts/build-erofs-utils'), { timeout: 900_000 });
  const folder = await freeFolder('slot');
  const image = join(folder, 'busybox.erofs');
  await busyboxErofs(image, join(tools.trim(), 'mkfs.erofs'), fill);
  const guest = await startBareGuest();
  await guest.fillSlot(0, image);
  const first = guest.connect();
  await first.configureSandbox(
    {
      clockNs: BigInt(Date.now()) * nanosPerMs,
      entropy: randomBytes(64),
      machineId: randomBytes(16).toString('hex'),
      hostname: 'pod',
      shareTag: 'share',
    },
    AbortSignal.timeout(60_000),
  );
  await first.close();
  let session = await AgentSession.open(guest.sockets, handshakeMs);
  const close = async (): Promise<void> => {
    session.close();
    await session.lost;
  };
  return {
    guest,
    client: () => session.client,
    reconnect: async () => {
      await close();
      session = await AgentSession.open(guest.sockets, handshakeMs);
    },
    agent: async () => {
      await close();
      return guest.connect();
    },
    [Symbol.asyncDispose]: async () => {
      await close();
      await guest[Symbol.asyncDispose]();
      await removeFolder(folder);
    },
  };
}
