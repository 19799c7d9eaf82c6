import { glob, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { TestNode } from '../harness/node.ts';

/** An image may be removed while containers run from it. */
let node: TestNode;

beforeAll(async () => {
  node = await TestNode.start({ config: { vm: { classes: { default: { pool: 0 } } } } });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

async function inodesBelow(folder: string): Promise<Set<bigint>> {
  const found = new Set<bigint>();
  for await (const name of glob('**/*', { cwd: folder })) {
    const entry = await stat(join(folder, name), { bigint: true }).catch(() => undefined);
    if (entry?.isFile() === true) found.add(entry.ino);
  }
  return found;
}

test('its container goes on, over a restart too; its file goes with the last pod', async () => {
  const { cri, root } = node.daemon;
  const pod = await node.runPod();
  const container = await node.startContainer(pod);
  const { image } = await cri.call('ImageStatus', { image: { image: node.image } });
  const file = join(root, 'images', 'rootfs', `${(image?.id ?? '').replace('sha256:', '')}.erofs`);
  const { ino } = await stat(file, { bigint: true });

  await cri.call('RemoveImage', { image: { image: node.image } });
  expect((await cri.call('ListImages', {})).images).toEqual([]);
  await expect(stat(file)).rejects.toThrow('ENOENT');
  // Not read before, so it can only come from the file.
  expect(await node.sh(container, 'md5sum < /bin/busybox; cat /www/index.html')).toContain('It works');
  await expect(node.createContainer(pod)).rejects.toMatchObject({
    code: 5,
    details: expect.stringContaining(node.image) as unknown,
  });

  await node.daemon.stop();
  await node.daemon.start();
  expect((await node.status(container)).state).toBe('CONTAINER_RUNNING');
  expect(await node.sh(container, 'cat /etc/group')).toContain('extra:x:50000');
  await expect(node.createContainer(pod)).rejects.toMatchObject({ code: 5 });
  expect(await inodesBelow(root)).toContain(ino);

  await node.removePod(pod);
  expect(await inodesBelow(root)).not.toContain(ino);

  await cri.call('PullImage', { image: { image: node.image } });
  const again = await node.runPod();
  expect((await node.runToEnd(again, { command: ['echo', 'back'] })).output).toBe('back');
  await node.removePod(again);
});
