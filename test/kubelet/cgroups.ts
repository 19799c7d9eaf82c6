import { glob, readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';

/** What a kubelet calls the group of all its pods, in every hierarchy, and does not remove. */
const kubelets = 'kubepods';

async function removeGroup(group: string): Promise<void> {
  for (const entry of await readdir(group, { withFileTypes: true }))
    if (entry.isDirectory()) await removeGroup(join(group, entry.name));
  await rmdir(group);
}

/** Removes the kubelet's groups, which hold no processes any more. */
export async function removeKubeletGroups(): Promise<void> {
  for await (const group of glob(`/sys/fs/cgroup/{${kubelets},*/${kubelets}}`)) await removeGroup(group);
}
