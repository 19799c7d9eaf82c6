import { join } from 'node:path';
import { newContainerId, newSandboxId } from '../../src/podsandbox/ids.ts';
import { openRecords } from '../../src/podsandbox/records.ts';
import { Store } from '../../src/store/store.ts';
import { containerMarks, podMarks } from './kubelet-marks.ts';

/**
 * Adds pods that have ended to the records of a daemon that does not run: copies of one, with ids and names
 * of their own. They are as good as others for whoever lists them, and made at once.
 */
export async function copyEndedPod(root: string, id: string, copies: number): Promise<void> {
  const store = Store.open(join(root, 'state.lmdb'));
  try {
    const { sandboxes, containers, traces } = openRecords(store);
    const pod = sandboxes.get(id);
    const container = containers.entries().find(({ record }) => record.sandboxId === id)?.record;
    if (pod?.phase !== 'ended' || container?.phase !== 'exited') throw new Error(`pod ${id} has not ended`);
    const written: Promise<void>[] = [];
    for (let number = 0; number < copies; number++) {
      const [podId, containerId] = [newSandboxId(), newContainerId()];
      const name = `${pod.config.metadata.name}-${String(number)}`;
      const metadata = { ...pod.config.metadata, name, uid: name };
      written.push(
        sandboxes.put(podId, { ...pod, id: podId, config: { ...pod.config, metadata, ...podMarks(metadata) } }),
        containers.put(containerId, {
          ...{ ...container, id: containerId, sandboxId: podId },
          config: { ...container.config, ...containerMarks(container.config.metadata.name, metadata) },
        }),
        traces.put(podId, traces.get(id) ?? []),
        traces.put(containerId, traces.get(container.id) ?? []),
      );
    }
    await Promise.all(written);
    await store.flushed();
  } finally {
    await store.close();
  }
}
