import { mkdir, open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { buildBusyboxImage } from '../harness/busybox-image.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { TestNode, type Pod } from '../harness/node.ts';
import { writeTar } from '../harness/tar-stream.ts';

/** Volumes that do not come through the share: those of images, block devices, devices of the guest. */
let node: TestNode;
let pod: Pod;
let cdi: string;
/** Has volumes of its own, with content. */
let image: string;

const layer = writeTar([
  { name: 'data', type: 'folder', mode: 0o2750, uid: 33, gid: 44 },
  { name: 'data/file', type: 'file', mode: 0o640, uid: 33, gid: 55, data: 'seed\n' },
  { name: 'data/same', type: 'hardlink', target: 'data/file' },
  { name: 'data/link', type: 'symlink', target: '/nowhere' },
  { name: 'taken', type: 'folder' },
  { name: 'taken/hidden', type: 'file' },
  { name: 'ways', type: 'folder' },
  { name: 'ways/absolute', type: 'symlink', target: '/data' },
  { name: 'ways/up', type: 'symlink', target: '../../../../../../etc/marker' },
  { name: 'etc/marker', type: 'file', data: 'of the image\n' },
]);

beforeAll(async () => {
  cdi = await freeFolder('cdi');
  node = await TestNode.start({ config: { vm: { classes: { default: { pool: 0 } } }, cdi: { spec_dirs: [cdi] } } });
  const folder = await freeFolder('data-image');
  try {
    const config = { Volumes: { '/data': {}, '/fresh/': {}, '/taken': {} } };
    const built = await buildBusyboxImage(folder, { config, layers: [layer] });
    image = await node.registry.push(built.folder, 'kelyfos/data:test');
  } finally {
    await removeFolder(folder);
  }
  await node.daemon.cri.call('PullImage', { image: { image } });
  pod = await node.runPod({ config: { linux: { security_context: { privileged: true } } } });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
  await removeFolder(cdi);
});

const remove = (id: string): Promise<unknown> => node.daemon.cri.call('RemoveContainer', { container_id: id });

describe('volumes that an image declares', () => {
  test('are writable under a read-only root, begin with the image’s content, and end with the container', async () => {
    const host = join(node.daemon.scratch, 'taken');
    await mkdir(host);
    await writeFile(join(host, 'of-the-pod'), '');
    const config = {
      image: { image },
      mounts: [{ host_path: host, container_path: '/taken/' }],
      linux: { security_context: { readonly_rootfs: true } },
    };
    const first = await node.startContainer(pod, { config });
    expect(await node.sh(first, 'stat -c "%n %u:%g %a" /data /data/file /fresh')).toBe(
      '/data 33:44 2750\n/data/file 33:55 640\n/fresh 0:0 755',
    );
    expect(await node.sh(first, 'cat /data/file; readlink /data/link; stat -c %h /data/same')).toBe(
      'seed\n/nowhere\n2',
    );
    await node.sh(first, 'echo mine > /data/file; echo more > /data/new; echo x > /fresh/x');
    expect((await node.exec(first, 'touch', '/etc/x')).stderr).toMatch(/Read-only file system/);
    expect(await node.sh(first, 'ls /taken')).toBe('of-the-pod');

    const second = await node.startContainer(pod, { config });
    expect(await node.sh(second, 'cat /data/file; ls /data /fresh')).toBe('seed\n/data:\nfile\nlink\nsame\n\n/fresh:');
    await remove(first);
    await remove(second);
  });
});

describe('an image as a volume', () => {
  const mount = (more: object = {}): object => ({
    container_path: '/image',
    readonly: true,
    image: { image },
    ...more,
  });

  test('is readable and executable, and nothing else; stays while it is used', async () => {
    const mounts = [mount(), mount({ container_path: '/part', image_sub_path: 'ways/absolute' })];
    const first = await node.startContainer(pod, { config: { mounts } });
    const second = await node.startContainer(pod, { config: { mounts: [mount()] } });
    expect(await node.sh(first, '/image/bin/busybox cat /image/etc/marker /part/file')).toBe('of the image\nseed');
    expect((await node.exec(first, 'touch', '/image/x')).stderr).toMatch(/Read-only file system/);
    const { image: found } = await node.daemon.cri.call('ImageStatus', { image: { image } });
    expect((await node.status(first)).mounts).toMatchObject([
      { container_path: '/image', host_path: '', readonly: true, image: { image: found?.id, image_ref: found?.id } },
      { container_path: '/part', image_sub_path: 'ways/absolute' },
    ]);

    await node.daemon.cri.call('RemoveImage', { image: { image } });
    await node.daemon.stop();
    await node.daemon.start();
    await remove(first);
    expect(await node.sh(second, 'md5sum < /image/bin/busybox && cat /image/data/file')).toContain('seed');
    await remove(second);
    await node.daemon.cri.call('PullImage', { image: { image } });
    // The slot holds another image now.
    const third = await node.startContainer(pod, { config: { image: { image } } });
    expect(await node.sh(third, 'cat /etc/marker')).toBe('of the image');
    await remove(third);
  });

  test.each([
    ['a file by a link that leads up', 'ways/up', 'of the image'],
    ['a folder', 'data/', ''],
  ])('in part: %s', async (_, subPath, content) => {
    const config = { mounts: [mount({ container_path: '/part', image_sub_path: subPath })] };
    const id = await node.startContainer(pod, { config });
    expect(await node.sh(id, 'test -d /part || cat /part')).toBe(content);
    await remove(id);
  });

  test.each([
    ['a part that is not there', { image_sub_path: 'data/nothing' }, /^ImageVolumeMountFailed: "data\/nothing"/],
    ['an image that is not there', { image: { image: 'none.test/none:1' } }, /^ImageVolumeMountFailed: .*none\.test/],
    ['not read-only', { readonly: false }, /readonly is false/],
  ])('%s is an error', async (_, change, details) => {
    await expect(node.createContainer(pod, { config: { mounts: [mount(change)] } })).rejects.toMatchObject({
      details: expect.stringMatching(details) as unknown,
    });
  });
});

describe('a block device', () => {
  const size = 16 * 1024 ** 2;
  let file: string;
  let loop: string;

  beforeAll(async () => {
    file = join(node.daemon.scratch, 'block.img');
    await writeFile(file, '');
    await truncate(file, size);
    loop = (await execa('losetup', ['--find', '--show', file])).stdout.trim();
  });

  afterAll(async () => {
    // Already gone when all went well.
    await execa('losetup', ['--detach', loop], { reject: false });
  });

  const device = (permissions: string, path = '/dev/xvda'): object => ({
    devices: [{ host_path: loop, container_path: path, permissions }],
  });

  async function onHost(offset: number, length: number): Promise<string> {
    await using handle = await open(loop);
    return (await handle.read(Buffer.alloc(length), 0, length, offset)).buffer.toString();
  }

  test('is a disk that containers of the pod share, over a restart, until the last has gone', async () => {
    const first = await node.startContainer(pod, { config: device('rwm') });
    const second = await node.startContainer(pod, { config: device('rw', '/dev/other') });
    const reader = await node.startContainer(pod, { config: device('r') });
    expect(await node.sh(first, 'stat -c %F /dev/xvda; blockdev --getsize64 /dev/xvda')).toBe(
      `block special file\n${String(size)}`,
    );
    await node.sh(first, 'printf hello | dd of=/dev/xvda bs=512 seek=8 conv=notrunc,fsync');
    expect(await node.sh(second, 'dd if=/dev/other bs=512 skip=8 count=1 | head -c 5')).toBe('hello');
    expect(await onHost(4096, 5)).toBe('hello');
    expect(await node.sh(reader, 'dd if=/dev/xvda bs=512 skip=8 count=1 | head -c 5')).toBe('hello');
    expect((await node.exec(reader, 'dd', 'if=/dev/zero', 'of=/dev/xvda', 'count=1')).stderr).toMatch(/not permitted/);
    const stranger = await node.startContainer(pod);
    const numbers = await node.sh(first, 'printf "%d %d" 0x$(stat -c %t /dev/xvda) 0x$(stat -c %T /dev/xvda)');
    expect((await node.exec(stranger, 'sh', '-c', `mknod /tmp/d b ${numbers} && cat /tmp/d`)).stderr).toMatch(
      /not permitted/,
    );

    await remove(first);
    await node.daemon.stop();
    await node.daemon.start();
    await node.sh(second, 'printf again | dd of=/dev/other bs=512 conv=notrunc,fsync');
    expect(await onHost(0, 5)).toBe('again');
    const late = await node.startContainer(pod, { config: device('rw') });
    expect(await node.sh(late, 'head -c 5 /dev/xvda')).toBe('again');
    for (const id of [second, reader, stranger, late]) await remove(id);

    // A device that is still open somewhere would stay.
    await execa('losetup', ['--detach', loop]);
    expect((await execa('losetup', ['--associated', file])).stdout).toBe('');
  });
});

test('a CDI device brings its environment, nodes and mounts', async () => {
  await writeFile(join(cdi, 'content'), 'of the vendor');
  await writeFile(
    join(cdi, 'vendor.yaml'),
    `
cdiVersion: "0.8.0"
kind: vendor.test/thing
containerEdits:
  env: [THING=here]
devices:
  - name: a
    containerEdits:
      deviceNodes: [{ path: /dev/thing, hostPath: /dev/fuse, fileMode: 0o640, uid: 5 }]
      mounts: [{ hostPath: "${join(cdi, 'content')}", containerPath: /lib/thing, options: [ro, bind] }]
`,
  );
  const id = await node.startContainer(pod, { config: { CDI_devices: [{ name: 'vendor.test/thing=a' }] } });
  expect(await node.sh(id, 'echo $THING; cat /lib/thing; exec 3<>/dev/thing; stat -c " %u %a" /dev/thing')).toBe(
    'here\nof the vendor 5 640',
  );
  await expect(
    node.createContainer(pod, { config: { CDI_devices: [{ name: 'vendor.test/thing=b' }] } }),
  ).rejects.toThrow(/unresolvable CDI devices "vendor.test\/thing=b"/);
  await remove(id);
});

describe('devices', () => {
  const devices = (...paths: readonly [host: string, container: string][]): { readonly config: object } => ({
    config: {
      devices: paths.map(([host_path, container_path]) => ({ host_path, container_path, permissions: 'rwm' })),
    },
  });

  test('that the guest has itself are given', async () => {
    const id = await node.startContainer(
      pod,
      devices(['/dev/fuse', '/dev/fuse'], ['/dev/net', '/dev/net'], ['/dev/null', '/dev/hole']),
    );
    expect(await node.sh(id, 'echo x > /dev/hole; exec 3<>/dev/fuse 4<>/dev/net/tun; echo open')).toBe('open');
    expect(await node.sh(id, 'stat -c %a /dev /dev/pts/ptmx')).toBe('755\n666');
    const without = await node.startContainer(pod);
    expect((await node.exec(without, 'ls', '/dev/fuse')).exitCode).not.toBe(0);
    await remove(id);
    await remove(without);
  });

  test('of the host alone are refused by name', async () => {
    await expect(node.createContainer(pod, devices(['/dev/loop-control', '/dev/x']))).rejects.toThrow(
      /device "\/dev\/loop-control" \(character device 10:237\): .*host runtime/,
    );
    await expect(node.createContainer(pod, devices(['/dev/nvidia0', '/dev/x']))).rejects.toThrow(/"\/dev\/nvidia0"/);
  });

  test('all of the guest’s are there when privileged', async () => {
    const id = await node.startContainer(pod, { config: { linux: { security_context: { privileged: true } } } });
    expect(await node.sh(id, 'head -c 4 /dev/vda > /dev/null; test -c /dev/net/tun; test -c /dev/null; echo all')).toBe(
      'all',
    );
    await remove(id);
  });
});
