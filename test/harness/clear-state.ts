import { glob, readFile, readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { type ProcessIdentity, terminate } from '../../src/platform/processes.ts';

/** Every {pid, startTime} in a record, at whatever depth. */
function processesIn(value: unknown): ProcessIdentity[] {
  if (typeof value !== 'object' || value === null) return [];
  const { pid, startTime } = value as Partial<ProcessIdentity>;
  const own = typeof pid === 'number' && typeof startTime === 'string' ? [{ pid, startTime }] : [];
  return [...own, ...Object.values(value).flatMap(processesIn)];
}

/**
 * Removes what outlives a daemon on purpose and has no owner once its state folder goes: pooled VMs,
 * the holder of the template's memory, their namespaces and groups.
 */
export async function clearState(state: string): Promise<void> {
  for await (const file of glob('**/*.json', { cwd: state })) {
    const record: unknown = JSON.parse(await readFile(join(state, file), 'utf8').catch(() => 'null'));
    for (const identity of processesIn(record)) await terminate(identity, 2_000);
  }
  const vmIds = (await readdir(join(state, 'vms')).catch(() => [])).filter((name) => /^[0-9a-f]{16}$/.test(name));
  for (const vmId of vmIds) {
    await execa('ip', ['netns', 'delete', `kelyfos-${vmId}`], { reject: false, timeout: 10_000 });
    // Their own groups below kelyfos, and below the pods that they belonged to.
    for await (const group of glob([`/sys/fs/cgroup/**/kelyfos/${vmId}`, `/sys/fs/cgroup/**/kelyfos-${vmId}`]))
      await rmdir(group).catch(() => undefined);
  }
}
