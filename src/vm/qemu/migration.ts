import { z } from 'zod';
import { AppError } from '../../platform/errors.ts';
import { inheritedFds } from './devices/inherited-fds.ts';
import { jailPaths } from './jail-paths.ts';
import type { QmpClient, QmpEvent } from './qmp.ts';

const status = z.looseObject({ status: z.string(), 'error-desc': z.string().optional() });

/** Device state only: memory is shared with the template's file, or private on top of it. `events` tells when it is done. */
const capabilities = {
  capabilities: [
    { capability: 'x-ignore-shared', state: true },
    { capability: 'events', state: true },
  ],
};

/**
 * A clone does not announce itself, as a machine would that has come from another host: nobody knows it, and each such frame
 * wakes all guests of the same network.
 */
const quietly = { 'announce-rounds': 0 };

/** Sends the device state to the daemon's socket in the jail. */
export async function writeState(qmp: QmpClient, signal: AbortSignal): Promise<void> {
  await migrate(qmp, 'migrate', `unix:${jailPaths.stateSink}`, signal);
}

/** Reads the device state from the inherited descriptor. */
export async function restoreFromState(qmp: QmpClient, signal: AbortSignal): Promise<void> {
  await Promise.all([
    qmp.execute('migrate-set-parameters', quietly),
    migrate(qmp, 'migrate-incoming', `fd:${String(inheritedFds.state)}`, signal),
  ]);
}

async function migrate(qmp: QmpClient, command: string, uri: string, signal: AbortSignal): Promise<void> {
  const ended = qmp.waitEvent(isEnd, `${command} to end`, signal);
  // It rejects, too, when one of the commands does; that error is the one to tell.
  ended.catch(() => undefined);
  await Promise.all([qmp.execute('migrate-set-capabilities', capabilities), qmp.execute(command, { uri })]);
  const event = await ended;
  if (event.data['status'] === 'completed') return;
  const answer = status.parse(await qmp.execute('query-migrate'));
  throw new AppError('internal', `qmp ${command}: ${answer['error-desc'] ?? answer.status}`);
}

function isEnd(event: QmpEvent): boolean {
  return event.name === 'MIGRATION' && (event.data['status'] === 'completed' || event.data['status'] === 'failed');
}
