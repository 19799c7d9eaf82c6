import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError, messageOf } from '../../platform/errors.ts';
import { identify, isAlive, type ProcessIdentity } from '../../platform/processes.ts';
import type { VmFolder } from '../vm-folder.ts';
import type { MachineExit } from '../hypervisor.ts';
import { logTail } from './log-tail.ts';

/** How often a process that is not our child is looked at. Its QMP socket tells sooner. */
const pollMs = 500;
/** The same once its end is waited for. */
const endPollMs = 10;

/** A QEMU process, our child or one that an earlier daemon started. */
export interface QemuProcess {
  readonly identity: ProcessIdentity;
  /** Never rejects. */
  readonly exited: Promise<MachineExit>;
  /**
   * Somebody is about to wait for the end: a child keeps the daemon alive until then, the state of
   * another process is looked at right now.
   */
  expectEnd(): void;
}

/** Starts the jailer, which becomes QEMU: one process id from here to the end. It outlives this daemon. */
export async function spawnQemu(jailer: string, args: readonly string[], folder: VmFolder): Promise<QemuProcess> {
  const stderr = await open(folder.stderrLog, 'a', 0o600);
  try {
    // Not execa: nothing is read from this child, and its output goes to an open file, which execa's types refuse.
    const child = spawn(jailer, args, { detached: true, env: {}, stdio: ['ignore', 'ignore', stderr.fd] });
    child.unref();
    // Watched from the start: the process may end before its identity is read.
    const exited = new Promise<string>((resolve) => {
      child.once('error', (error) => {
        resolve(`without being started (${messageOf(error)})`);
      });
      child.once('exit', (code, signal) => {
        resolve(signal === null ? `with code ${String(code)}` : `by ${signal}`);
      });
    }).then((how) => describeExit(how, folder));
    if (child.pid === undefined) throw new AppError('failed-precondition', `start ${jailer}: ${(await exited).reason}`);
    const identity = await identify(child.pid);
    if (!identity) throw new AppError('internal', `vm ${folder.vmId}: ${(await exited).reason}`);
    return {
      identity,
      exited,
      expectEnd: () => {
        child.ref();
      },
    };
  } finally {
    await stderr.close();
  }
}

/** Watches a QEMU that is not our child. */
export function watchQemu(identity: ProcessIdentity, folder: VmFolder): QemuProcess {
  let wake = Promise.withResolvers<undefined>();
  let expected = false;
  const watch = async (): Promise<MachineExit> => {
    while (await isAlive(identity)) {
      wake = Promise.withResolvers();
      // Watching alone keeps no daemon alive; waiting for an end does.
      await Promise.race([delay(expected ? endPollMs : pollMs, undefined, { ref: expected }), wake.promise]);
    }
    return describeExit('while it was not our child', folder);
  };
  return {
    identity,
    exited: watch(),
    expectEnd: () => {
      expected = true;
      wake.resolve(undefined);
    },
  };
}

async function describeExit(how: string, folder: VmFolder): Promise<MachineExit> {
  const at = new Date();
  const tail = async (name: string, path: string): Promise<string> => {
    try {
      const text = await logTail(path);
      return text === '' ? '' : `; ${name}: ${text}`;
    } catch (error) {
      return `; ${name}: unreadable (${messageOf(error)})`;
    }
  };
  const [stderr, serial] = await Promise.all([tail('stderr', folder.stderrLog), tail('console', folder.serialLog)]);
  return { reason: `qemu ended ${how}${stderr}${serial}`, at };
}
