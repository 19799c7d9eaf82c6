import { mkdir, readdir, readFile, rename, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { TestNode, type Pod } from '../harness/node.ts';

/** Host folders and files in the guest, through 9p, both ways. */
let node: TestNode;
let pod: Pod;

beforeAll(async () => {
  node = await TestNode.start();
  pod = await node.runPod({
    name: 'web',
    config: {
      dns_config: { servers: ['192.0.2.53'], searches: ['svc.test'], options: ['ndots:5'] },
      linux: { security_context: { privileged: true } },
    },
  });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

async function folder(name: string): Promise<string> {
  const path = join(node.daemon.scratch, name);
  await mkdir(path, { recursive: true });
  return path;
}

const mounts = (...list: readonly object[]): { readonly config: object } => ({ config: { mounts: list } });

describe('a folder', () => {
  test('is live in both directions, with owners and modes, setuid included', async () => {
    const host = await folder('both');
    const id = await node.startContainer(pod, mounts({ host_path: host, container_path: '/data' }));
    await writeFile(join(host, 'from-host'), 'hello guest');
    expect(await node.sh(id, 'cat /data/from-host')).toBe('hello guest');
    await node.sh(
      id,
      'echo hello host > /data/from-guest; chown 1234:5678 /data/from-guest; chmod 4750 /data/from-guest',
    );
    expect(await readFile(join(host, 'from-guest'), 'utf8')).toBe('hello host\n');
    const { uid, gid, mode } = await stat(join(host, 'from-guest'));
    expect([uid, gid, (mode & 0o7777).toString(8)]).toEqual([1234, 5678, '4750']);
  });

  test('read-only is read-only', async () => {
    const host = await folder('ro');
    const id = await node.startContainer(pod, mounts({ host_path: host, container_path: '/data', readonly: true }));
    expect((await node.exec(id, 'touch', '/data/x')).stderr).toMatch(/Read-only file system/);
  });

  test('shows a swapped symlink at once, as ConfigMaps are updated', async () => {
    const host = await folder('config');
    for (const [name, content] of [
      ['..v1', 'one'],
      ['..v2', 'two'],
    ] as const) {
      await mkdir(join(host, name));
      await writeFile(join(host, name, 'key'), content);
    }
    await symlink('..v1', join(host, '..data'));
    await symlink('..data/key', join(host, 'key'));
    const id = await node.startContainer(pod, mounts({ host_path: host, container_path: '/config', readonly: true }));
    expect(await node.sh(id, 'cat /config/key')).toBe('one');
    await symlink('..v2', join(host, '..data_tmp'));
    await rename(join(host, '..data_tmp'), join(host, '..data'));
    expect(await node.sh(id, 'cat /config/key')).toBe('two');
  });

  test('that is missing on the host is made; a bad source is an error naming it', async () => {
    const missing = join(node.daemon.scratch, 'not', 'yet');
    const id = await node.startContainer(pod, mounts({ host_path: missing, container_path: '/data' }));
    await node.sh(id, 'touch /data/x');
    await stat(join(missing, 'x'));
    const file = join(node.daemon.scratch, 'plain');
    await writeFile(file, '');
    await expect(
      node.createContainer(pod, mounts({ host_path: join(file, 'below'), container_path: '/d' })),
    ).rejects.toThrow(/plain\/below/);
    await expect(node.createContainer(pod, mounts({ host_path: '/dev/null', container_path: '/d' }))).rejects.toThrow(
      /\/dev\/null.*device/,
    );
  });

  test('of another file system keeps inodes apart', async () => {
    const [a, b] = [await folder('fs-a'), await folder('fs-b')];
    for (const path of [a, b]) await execa('mount', ['-t', 'tmpfs', 'tmpfs', path]);
    try {
      for (const path of [a, b]) await writeFile(join(path, 'file'), path);
      const [inodeA, inodeB] = [(await stat(join(a, 'file'))).ino, (await stat(join(b, 'file'))).ino];
      expect(inodeA).toBe(inodeB);
      const id = await node.startContainer(
        pod,
        mounts({ host_path: a, container_path: '/a' }, { host_path: b, container_path: '/b' }),
      );
      const [guestA, guestB] = (await node.sh(id, 'stat -c %i /a/file /b/file')).split('\n');
      expect(guestA).not.toBe(guestB);
      expect(await node.sh(id, 'cat /b/file')).toBe(b);
      await node.daemon.cri.call('RemoveContainer', { container_id: id });
    } finally {
      for (const path of [a, b]) await execa('umount', [path]);
    }
  });
});

test('a file: termination log and hosts file, written through before EXITED', async () => {
  const log = join(node.daemon.scratch, 'termination-log');
  const hosts = join(node.daemon.scratch, 'hosts');
  await writeFile(log, '');
  await writeFile(hosts, '127.0.0.1 localhost from-kubelet\n');
  const { output } = await node.runToEnd(pod, {
    command: ['sh', '-c', 'cat /etc/hosts; echo done > /dev/termination-log'],
    ...mounts(
      { host_path: log, container_path: '/dev/termination-log' },
      { host_path: hosts, container_path: '/etc/hosts' },
    ),
  });
  expect(output).toBe('127.0.0.1 localhost from-kubelet');
  expect(await readFile(log, 'utf8')).toBe('done\n');
});

test('the pod’s own files: hosts, resolv.conf, hostname, shared memory', async () => {
  const id = await node.startContainer(pod);
  expect((await node.sh(id, 'cat /etc/resolv.conf')).split('\n').sort()).toEqual([
    'nameserver 192.0.2.53',
    'options ndots:5',
    'search svc.test',
  ]);
  expect(await node.sh(id, 'cat /etc/hostname')).toBe('web');
  expect(await node.sh(id, 'cat /etc/hosts')).toMatch(/localhost/);
  expect(await node.sh(id, 'df -k /dev/shm | tail -n 1')).toMatch(/ 65536 /);
});

test('device nodes: a pod makes none in a volume, and opens none that is there', async () => {
  const host = await folder('devices');
  // Of the two, every container may use the second: what refuses it is the volume, not the rules for devices.
  const nodes = { mem: ['c', '1', '1'], null: ['c', '1', '3'] } as const;
  for (const [name, numbers] of Object.entries(nodes)) await execa('mknod', [join(host, name), ...numbers]);
  const privileged = { linux: { security_context: { privileged: true } } };
  for (const extra of [{}, privileged]) {
    const config = { mounts: [{ host_path: host, container_path: '/data' }], ...extra };
    const id = await node.startContainer(pod, { config });
    expect(await node.sh(id, 'head -c 1 /dev/null')).toBe('');
    for (const [name, numbers] of Object.entries(nodes)) {
      expect(await node.sh(id, `stat -c %F /data/${name}`)).toBe('character special file');
      expect(await node.exec(id, 'head', '-c', '1', `/data/${name}`)).toMatchObject({
        exitCode: 1,
        stderr: expect.stringMatching(/Permission denied|Operation not permitted/) as unknown,
      });
      // QEMU makes it, cannot set its mode (it opens nothing but files and folders), and takes it away again.
      expect(await node.exec(id, 'mknod', `/data/new-${name}`, ...numbers)).toMatchObject({
        exitCode: 1,
        stderr: expect.stringMatching(/No such device or address/) as unknown,
      });
    }
  }
  expect((await readdir(host)).sort()).toEqual(['mem', 'null']);
});
