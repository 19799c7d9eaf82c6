import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { mountsBelow } from '../../src/platform/mount-table.ts';
import { openRecords } from '../../src/podsandbox/records.ts';
import { Store } from '../../src/store/store.ts';

export interface DaemonFolders {
  readonly root: string;
  readonly state: string;
}

/** Folders that hold something per pod, per VM, or per pull. Templates stay on purpose: the next daemon clones them. */
const perPod = {
  state: ['vms', 'netns', 'cni/results', 'secrets'],
  root: ['vms'],
} as const;

async function names(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function records(root: string): Promise<string[]> {
  const path = join(root, 'state.lmdb');
  // A daemon that never came that far; opening would make it.
  const exists = await access(path).then(
    () => true,
    () => false,
  );
  if (!exists) return [];
  const store = Store.open(path);
  try {
    const { sandboxes, containers, checkpoints } = openRecords(store);
    return Object.entries({ sandboxes, containers, checkpoints }).flatMap(([name, table]) =>
      table.entries().map(({ key }) => `record: ${name}/${key}`),
    );
  } finally {
    await store.close();
  }
}

/**
 * What a daemon that has ended in an orderly way, all its pods removed, did not clear away itself; one
 * line each. Look before anything else tidies up. `leases`: addresses of pods that are still taken.
 */
export async function leftBehind(
  folders: DaemonFolders,
  leases: () => Promise<readonly string[]> = () => Promise.resolve([]),
): Promise<string[]> {
  const { root, state } = folders;
  const files = [...perPod.state.map((name) => join(state, name)), ...perPod.root.map((name) => join(root, name))];
  const found = await Promise.all(files.map(async (folder) => (await names(folder)).map((name) => join(folder, name))));
  const mounts = await mountsBelow(state);
  return [
    ...found.flat().map((path) => `file: ${path}`),
    ...mounts.map((point) => `mount: ${point}`),
    ...(await leases()).map((address) => `address: ${address}`),
    ...(await records(root)),
  ];
}
