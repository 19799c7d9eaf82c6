import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { status } from '@grpc/grpc-js';
import type * as cri from '../../src/cri/gen/cri-types.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { TestNode, type Pod } from '../harness/node.ts';
import { writeOciLayout } from '../harness/oci-layout.ts';
import { writeTar } from '../harness/tar-stream.ts';

/** The image service as kubelets and crictl use it, with a registry that also stands for docker.io. */
let node: TestNode;
let pod: Pod;
let base: string;
const short = 'kelyfos/busybox:test';
const long = `docker.io/${short}`;

beforeAll(async () => {
  base = await freeFolder('image-service');
  node = await TestNode.start({
    dockerHub: true,
    config: { images: { pinned: ['*/keep-*'] }, vm: { classes: { default: { pool: 0 } } } },
  });
  pod = await node.runPod();
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
  await removeFolder(base);
});

async function pull(image: string): Promise<string> {
  return (await node.daemon.cri.call('PullImage', { image: { image } })).image_ref;
}

async function remove(image: string): Promise<void> {
  await node.daemon.cri.call('RemoveImage', { image: { image } });
}

async function find(image: string): Promise<cri.Image | null> {
  return (await node.daemon.cri.call('ImageStatus', { image: { image } })).image;
}

async function list(): Promise<readonly cri.Image[]> {
  return (await node.daemon.cri.call('ListImages', {})).images;
}

/** An image in the registry, with so many bytes that nothing compresses. */
async function push(name: string, bytes = 1000): Promise<void> {
  const layout = await mkdtemp(join(base, 'layout-'));
  const file = { name: 'file', type: 'file', data: randomBytes(bytes) } as const;
  await writeOciLayout(layout, [writeTar([file])], { Cmd: ['/file'] });
  await node.registry.push(layout, name);
}

test('names as users type them: short, whole, tagged, by digest, by id and the beginning of an id', async () => {
  const id = await pull(short);
  const image = await find(short);
  expect(image).toMatchObject({ id, repo_tags: expect.arrayContaining([long]) });
  const digest = image?.repo_digests.find((it) => it.startsWith('docker.io/')) ?? '';
  for (const name of [long, digest, id, id.slice(7), id.slice(7, 20), `sha256:${id.slice(7, 19)}`]) {
    expect((await find(name))?.id).toBe(id);
  }
  expect(await pull(digest)).toBe(id);
  // The official images, in crictl.
  await push('library/official:latest');
  const { crictl } = node.daemon;
  await crictl.run('pull', 'official');
  expect((await find('official'))?.repo_tags).toEqual(['docker.io/library/official:latest']);
  expect(await crictl.run('images')).toMatch(/docker\.io\/library\/official +latest/);
  await crictl.run('rmi', 'official');
  expect(await find('docker.io/library/official')).toBeNull();
  expect(await find('nothing')).toBeNull();
});

test('one id in all answers', async () => {
  const id = await pull(short);
  expect((await find(short))?.id).toBe(id);
  expect((await list()).map((image) => image.id)).toContain(id);
  for (const image of [short, long, id, id.slice(7, 20)]) {
    const container = await node.startContainer(pod, {
      config: { image: { image, user_specified_image: 'as/written' } },
    });
    const found = await node.status(container);
    expect(found.image_id).toBe(id);
    expect(found.image).toMatchObject({ image, user_specified_image: 'as/written' });
    // Any of the names with a digest that ImageStatus has.
    expect((await find(short))?.repo_digests).toContain(found.image_ref);
    const { containers } = await node.daemon.cri.call('ListContainers', { filter: { id: container } });
    expect(containers).toMatchObject([{ image_id: id, image_ref: found.image_ref }]);
    await node.daemon.cri.call('RemoveContainer', { container_id: container });
  }
});

test('pinned images are marked, and a removal that is asked for removes them all the same', async () => {
  await push('apps/keep-this:1');
  await push('apps/other:1');
  const kept = await pull('apps/keep-this:1');
  const other = await pull('apps/other:1');
  const pinned = async (): Promise<readonly string[]> => (await list()).filter((it) => it.pinned).map(({ id }) => id);
  expect(await pinned()).toEqual([kept]);
  expect((await find(other))?.pinned).toBe(false);
  // crictl looks at the mark, as the kubelet's garbage collection does.
  await node.daemon.crictl.run('rmi', '--prune');
  const left = (await list()).map(({ id }) => id);
  expect(left).toContain(kept);
  expect(left).not.toContain(other);
  await remove(kept);
  expect(await find(kept)).toBeNull();
});

test('a pinned image stays pinned over a restart, by the configuration alone', async () => {
  await push('apps/keep-that:1');
  const id = await pull('apps/keep-that:1');
  const { configFile } = node.daemon;
  const config = await readFile(configFile, 'utf8');
  await node.daemon.stop();
  await writeFile(configFile, config.replace('"*/keep-*"', '"nothing"'));
  await node.daemon.start();
  expect((await find(id))?.pinned).toBe(false);
  await node.daemon.stop();
  await writeFile(configFile, config);
  await node.daemon.start();
  expect((await find(id))?.pinned).toBe(true);
  await remove(id);
});

test('figures of the file systems: images come and go, and so do writable layers', async () => {
  const megabyte = 1 << 20;
  const figures = async (): Promise<{ images: number; inodes: number; containers: number }> => {
    const { image_filesystems, container_filesystems } = await node.daemon.cri.call('ImageFsInfo', {});
    expect([image_filesystems.length, container_filesystems.length]).toEqual([1, 1]);
    expect(container_filesystems[0]?.fs_id).toEqual(image_filesystems[0]?.fs_id);
    return {
      images: Number(image_filesystems[0]?.used_bytes?.value),
      inodes: Number(image_filesystems[0]?.inodes_used?.value),
      containers: Number(container_filesystems[0]?.used_bytes?.value),
    };
  };
  await push('apps/big:1', 8 * megabyte);
  const before = await figures();
  const id = await pull('apps/big:1');
  const with_ = await figures();
  // Once compressed, once as a file system.
  expect(with_.images - before.images).toBeGreaterThan(15 * megabyte);
  expect(with_.images - before.images).toBeLessThan(20 * megabyte);
  // A layer, a configuration, a file system.
  expect(with_.inodes - before.inodes).toBe(3);
  await remove(id);
  const after = await figures();
  expect(Math.abs(after.images - before.images)).toBeLessThan(64 * 1024);
  expect(after.inodes).toBe(before.inodes);

  await pull(short);
  const container = await node.startContainer(pod, { config: { image: { image: short } } });
  const empty = await figures();
  await node.sh(container, `head -c ${String(8 * megabyte)} /dev/urandom > /written; sync`);
  const written = await figures();
  expect(written.containers - empty.containers).toBeGreaterThanOrEqual(8 * megabyte);
  expect(Math.abs(written.images - empty.images)).toBeLessThan(64 * 1024);
  await node.daemon.cri.call('RemoveContainer', { container_id: container });
});

test("an image that is removed under a container is the container's in the figures", async () => {
  await pull(short);
  const { cri: client, root } = node.daemon;
  const container = await node.startContainer(pod, { config: { image: { image: short } } });
  const used = async (): Promise<number> =>
    Number((await client.call('ImageFsInfo', {})).container_filesystems[0]?.used_bytes?.value);
  const before = await used();
  const { id = '', size = '' } = (await find(short)) ?? {};
  await remove(id);
  expect((await used()) - before).toBeGreaterThanOrEqual(Number(size) - 4096);
  expect(await readdir(join(root, 'images/rootfs'))).not.toContain(`${id.slice(7)}.erofs`);
  await client.call('RemoveContainer', { container_id: container });
});

test('pulls, removals and new containers at once: each works or says that there is no image', async () => {
  const { cri: client, root } = node.daemon;
  const id = await pull(short);
  const created: string[] = [];
  const create = async (): Promise<void> => {
    try {
      created.push(await node.createContainer(pod, { config: { image: { image: short } } }));
    } catch (error) {
      expect(error).toMatchObject({ code: status.NOT_FOUND });
    }
  };
  for (let round = 0; round < 3; round += 1) {
    const ids = await Promise.all([
      ...[pull(short), pull(long), pull(node.image)],
      ...[create(), remove(short), create(), remove(id), create(), remove(id.slice(7, 20))],
      pull(short),
    ]);
    for (const found of [ids[0], ids[1], ids[2], ids[9]]) expect(found).toBe(id);
  }
  // Those that came to be have all of their image.
  for (const container of created) {
    await client.call('StartContainer', { container_id: container });
    expect(await node.sh(container, 'cat /etc/group')).toContain('extra:x:50000');
    await client.call('RemoveContainer', { container_id: container });
  }
  await Promise.all(Array.from({ length: 5 }, () => remove(id)));
  await remove('nothing:1');
  for (const image of await list()) await remove(image.id);
  expect(await readdir(join(root, 'images/rootfs'))).toEqual([]);
  expect(await readdir(join(root, 'images/blobs/sha256'))).toEqual([]);
  expect(await readdir(join(root, 'images/staging'))).toEqual([]);
});
