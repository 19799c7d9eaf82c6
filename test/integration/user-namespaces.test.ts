import { chown, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { buildBusyboxImage } from '../harness/busybox-image.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { TestNode, type Pod } from '../harness/node.ts';
import { writeTar } from '../harness/tar-stream.ts';

/** Pods whose users are others outside of them. */
let node: TestNode;
let pod: Pod;
/** Has files of several owners, and volumes. */
let image: string;

// The kubelet takes any; some of the kernel's options end at half of them.
const firstId = 3_000_000_000;
const length = 65_536;
const mappings = [{ container_id: 0, host_id: firstId, length }];
const users = { mode: 'POD', uids: mappings, gids: mappings } as const;
const namespaceOptions = { pid: 'CONTAINER', userns_options: users } as const;

const layer = writeTar([
  { name: 'data', type: 'folder', mode: 0o2750, uid: 33, gid: 44 },
  { name: 'data/file', type: 'file', mode: 0o640, uid: 33, gid: 55, data: 'seed\n' },
  { name: 'etc/mine', type: 'file', mode: 0o600, uid: 1000, gid: 1000, data: 'mine\n' },
]);

beforeAll(async () => {
  node = await TestNode.start();
  const folder = await freeFolder('user-image');
  try {
    const built = await buildBusyboxImage(folder, {
      config: { Volumes: { '/data': {}, '/fresh': {} } },
      layers: [layer],
    });
    image = await node.registry.push(built.folder, 'kelyfos/users:test');
  } finally {
    await removeFolder(folder);
  }
  await node.daemon.cri.call('PullImage', { image: { image } });
  pod = await node.runPod({
    name: 'mapped',
    config: { linux: { security_context: { privileged: true, namespace_options: namespaceOptions } } },
  });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

interface Wishes {
  readonly context?: object;
  readonly mounts?: readonly object[];
  readonly tty?: boolean;
  readonly devices?: readonly object[];
}

/** As the kubelet asks for a container of such a pod. */
const config = ({ context = {}, ...more }: Wishes = {}): { readonly config: object } => ({
  config: {
    image: { image },
    linux: { security_context: { namespace_options: namespaceOptions, ...context } },
    ...more,
  },
});
const sh = (script: string): { readonly command: readonly string[] } => ({ command: ['sh', '-c', script] });
const remove = (id: string): Promise<unknown> => node.daemon.cri.call('RemoveContainer', { container_id: id });

async function output(script: string, wishes?: Wishes): Promise<string> {
  return (await node.runToEnd(pod, { ...sh(script), ...config(wishes) })).output;
}

test('is announced for each handler, and the pod’s is echoed', async () => {
  const { runtime_handlers: handlers } = await node.daemon.cri.call('Status', {});
  expect(handlers.map(({ name, features }) => [name, features?.user_namespaces])).toEqual([
    ['', true],
    ['kelyfos', true],
  ]);
  expect((await node.podStatus(pod)).linux?.namespaces?.options).toMatchObject(namespaceOptions);
});

describe('a container', () => {
  test('is root inside and nobody’s root outside', async () => {
    const id = await node.startContainer(pod, config());
    const map = `0 ${String(firstId)} ${String(length)}`;
    expect((await node.sh(id, 'cat /proc/self/uid_map /proc/self/gid_map')).replace(/ +/g, ' ')).toBe(
      `${map}\n ${map}`,
    );
    expect(await node.sh(id, 'id -u; id -g; grep ^CapEff /proc/1/status')).toBe('0\n0\nCapEff:\t00000000a80425fb');
    // Of the guest, not of the pod.
    for (const script of ['echo 1 > /proc/sys/kernel/panic', 'mknod /tmp/null c 1 3', 'mount -t tmpfs x /tmp'])
      expect((await node.exec(id, 'sh', '-c', script)).exitCode).not.toBe(0);
    expect((await node.status(id)).user?.linux).toMatchObject({ uid: '0', gid: '0' });
    await remove(id);
  });

  test('has its root file system, devices and the pod’s files with their owners', async () => {
    const id = await node.startContainer(pod, config());
    expect(
      await node.sh(
        id,
        'stat -c "%n %u:%g %a" / /bin/busybox /etc/mine /dev /dev/null /dev/shm /etc/hosts /dev/mqueue',
      ),
    ).toBe(
      [
        ...['/ 0:0 755', '/bin/busybox 0:0 755', '/etc/mine 1000:1000 600', '/dev 0:0 755', '/dev/null 0:0 666'],
        ...['/dev/shm 0:0 1777', '/etc/hosts 0:0 644', '/dev/mqueue 0:0 1777'],
      ].join('\n'),
    );
    expect(
      await node.sh(
        id,
        'touch /new; chown 7:8 /new; stat -c %u:%g /new; echo x > /dev/null; echo x > /dev/shm/x; touch /dev/mqueue/x; cat /etc/mine',
      ),
    ).toBe('7:8\nmine');
    await node.sh(id, 'echo 192.0.2.1 more >> /etc/hosts');
    await remove(id);
  });

  test('runs as other users, with groups; ids that are not mapped are an error', async () => {
    const context = { run_as_user: { value: '1000' }, run_as_group: { value: '2000' }, supplemental_groups: ['7'] };
    expect(
      await output('id -u; id -G; cat /etc/mine; echo x > /proc/self/fd/1; echo y > /dev/stdout', { context }),
    ).toBe('1000\n2000 7 50000\nmine\nx\ny');
    for (const over of [{ run_as_user: { value: String(length) } }, { supplemental_groups: ['70000'] }])
      await expect(node.createContainer(pod, config({ context: over }))).rejects.toMatchObject({
        code: status.INVALID_ARGUMENT,
        details: expect.stringMatching(/is not in the pod's user namespace/) as unknown,
      });
  });

  test('has a terminal of its own', async () => {
    const script = 'test -t 0 && tty && stat -c %u:%g $(tty) && stat -c %t:%T /dev/console';
    expect((await output(script, { tty: true })).split('\n')).toEqual([
      '/dev/pts/0',
      '0:5',
      expect.stringMatching(/^88:0\r?$/),
    ]);
  });

  test('has the volumes that the image declares, and other images, with their owners', async () => {
    const mounts = [{ container_path: '/image', readonly: true, image: { image } }];
    expect(
      await output('stat -c "%n %u:%g" /data /data/file /fresh /image/data/file; touch /fresh/x', { mounts }),
    ).toBe('/data 33:44\n/data/file 33:55\n/fresh 0:0\n/image/data/file 33:55');
  });

  test('privileged: root of the pod may mount there, and rules its network and host name', async () => {
    const context = { privileged: true };
    expect(
      await output(
        'mount -t tmpfs x /tmp && touch /tmp/x && stat -c %u /tmp/x; mkdir /sys/fs/cgroup/own && echo cgroup; hostname other && hostname',
        { context },
      ),
    ).toBe('0\ncgroup\nother');
    const id = await node.startContainer(pod, config({ context }));
    await node.sh(id, 'hostname mapped; ip link add dummy0 type dummy 2> /dev/null || ip addr add 192.0.2.7/32 dev lo');
    // What is the guest's would lead out of the namespace.
    for (const script of ['echo 1 > /proc/sys/kernel/panic', 'head -c 1 /dev/vda'])
      expect((await node.exec(id, 'sh', '-c', script)).stderr).toMatch(/Permission denied/);
    await remove(id);
  });

  test('has the devices it asks for, as its own', async () => {
    const devices = [{ host_path: '/dev/fuse', container_path: '/dev/fuse', permissions: 'rwm' }];
    expect(await output('stat -c %u:%g /dev/fuse && exec 3<>/dev/fuse && echo open', { devices })).toBe('0:0\nopen');
  });
});

test('an exec has a terminal of its own', async () => {
  const id = await node.startContainer(pod, config());
  const { crictl } = node.daemon;
  const command = ['exec', '--interactive', '--tty', id, 'sh', '-c', 'tty; stat -c %u:%g $(tty); id -u'];
  expect(await crictl.onTerminal(...command)).toMatch(/\/dev\/pts\/0\r?\n0:5\r?\n0$/);
  await remove(id);
});

describe('the pod', () => {
  test('shares users, network, IPC and host name among its containers', async () => {
    const ids = [await node.startContainer(pod, config()), await node.startContainer(pod, config())];
    const namespaces = 'for n in user net ipc uts; do readlink /proc/self/ns/$n; done; hostname';
    const [first, second] = await Promise.all(ids.map((id) => node.sh(id, namespaces)));
    expect(first).toBe(second);
    expect(first?.split('\n').at(-1)).toBe('mapped');
    await Promise.all(ids.map(remove));
  });

  test('shares its processes with containers that ask for it', async () => {
    const context = { namespace_options: { ...namespaceOptions, pid: 'POD' } };
    const target = await node.startContainer(pod, { command: ['sleep', '777'], ...config({ context }) });
    const other = await node.startContainer(pod, config({ context }));
    await node.sh(other, String.raw`kill -9 $(ps -o pid,args | sed -n 's/^ *\([0-9]*\) sleep 777$/\1/p')`);
    expect((await node.waitExited(target)).exit_code).toBe(137);
    await Promise.all([target, other].map(remove));
  });

  test('is reached at its address, also below port 1024, and reaches others', async () => {
    const id = await node.startContainer(pod, { ...sh('echo hello | nc -l -p 80; sleep 1000'), ...config() });
    const { network } = await node.podStatus(pod);
    await node.sh(id, 'until netstat -ltn | grep -q ":80 "; do usleep 10000; done');
    expect(await text(connect(80, network!.ip))).toBe('hello\n');
    expect(await node.sh(id, 'ping -c 1 -W 5 127.0.0.1 | grep -c " 0% packet loss"')).toBe('1');
    await remove(id);
  });

  test('is reached on its localhost by port-forward', async () => {
    const id = await node.startContainer(pod, {
      ...sh('echo hello | nc -l -p 81; sleep 1000'),
      ...config(),
    });
    await node.sh(id, 'until netstat -ltn | grep -q ":81 "; do usleep 10000; done');
    const forward = node.daemon.crictl.start('port-forward', pod.id, ':81');
    try {
      const port = await new Promise<string>((resolve) => {
        forward.stdout.on('data', (line: Buffer) => {
          const found = /^Forwarding from 127\.0\.0\.1:(\d+) /m.exec(line.toString())?.[1];
          if (found !== undefined) resolve(found);
        });
      });
      expect(await text(connect(Number(port), '127.0.0.1'))).toBe('hello\n');
    } finally {
      forward.kill('SIGKILL');
      await forward.catch(() => undefined);
    }
    await remove(id);
  });

  test('has its sysctls', async () => {
    const other = await node.runPod({
      config: {
        linux: {
          sysctls: { 'net.ipv4.ip_default_ttl': '99', 'kernel.msgmax': '1000', 'vm.max_map_count': '70000' },
          security_context: { namespace_options: namespaceOptions },
        },
      },
    });
    const { output: values } = await node.runToEnd(other, {
      ...sh('cd /proc/sys; cat net/ipv4/ip_default_ttl kernel/msgmax vm/max_map_count'),
      ...config(),
    });
    expect(values).toBe('99\n1000\n70000');
    await node.removePod(other);
  });

  test('goes on under another daemon', async () => {
    const id = await node.startContainer(pod, config());
    await node.daemon.stop();
    await node.daemon.start();
    expect(await node.sh(id, 'id -u')).toBe('0');
    expect(await output('id -u')).toBe('0');
    await remove(id);
  });
});

describe('a volume of the host', () => {
  const volume = (host: string, more: object = {}): Wishes => ({
    mounts: [{ host_path: host, container_path: '/mnt', uidMappings: mappings, gidMappings: mappings, ...more }],
  });

  test.each(['', 'tmpfs'])('has on disk the owners that it has in the pod (%s)', async (kind) => {
    const host = join(node.daemon.scratch, `mapped-${kind}`);
    await mkdir(host);
    if (kind !== '') await execa('mount', ['-t', kind, kind, host]);
    try {
      for (const [name, owner] of [
        ['root', 0],
        ['user', 1000],
        ['beyond', 70_000],
      ] as const) {
        await writeFile(join(host, name), name, { mode: 0o600 });
        await chown(join(host, name), owner, owner);
      }
      const id = await node.startContainer(pod, config(volume(host)));
      expect(await node.sh(id, 'stat -c "%n %u:%g" /mnt/root /mnt/user /mnt/beyond')).toBe(
        '/mnt/root 0:0\n/mnt/user 1000:1000\n/mnt/beyond 65534:65534',
      );
      expect(await node.sh(id, 'cat /mnt/root /mnt/user')).toBe('rootuser');
      expect((await node.exec(id, 'cat', '/mnt/beyond')).stderr).toMatch(/Permission denied/);
      await node.sh(id, 'mkdir /mnt/folder; echo new > /mnt/folder/new; chown 5:6 /mnt/folder/new; ln -s x /mnt/link');
      const owners = await Promise.all(
        ['folder', 'folder/new'].map(async (name) => {
          const { uid, gid } = await stat(join(host, name));
          return [uid, gid];
        }),
      );
      expect(owners).toEqual([
        [0, 0],
        [5, 6],
      ]);
      expect(await readFile(join(host, 'folder/new'), 'utf8')).toBe('new\n');
      const { mounts } = await node.status(id);
      expect(mounts).toMatchObject([{ uidMappings: mappings, gidMappings: mappings }]);
      await remove(id);
    } finally {
      if (kind !== '') await execa('umount', [host]);
    }
  });

  test('without mappings belongs to nobody in the pod', async () => {
    const host = join(node.daemon.scratch, 'unmapped');
    await mkdir(host);
    const id = await node.startContainer(pod, config(volume(host, { uidMappings: [], gidMappings: [] })));
    expect(await node.sh(id, 'stat -c %u:%g /mnt')).toBe('65534:65534');
    expect((await node.exec(id, 'touch', '/mnt/x')).stderr).toMatch(/Permission denied/);
    await remove(id);
  });

  test('whose file system cannot be mapped is an error that says so', async () => {
    await expect(node.createContainer(pod, config(volume('/proc/sys')))).rejects.toThrow(
      /"\/proc\/sys" of \/mnt: .*map the owners of the volume's file system: not with this kind/,
    );
  });
});

test('what no pod can be is refused', async () => {
  const run = (options: object): Promise<Pod> =>
    node.runPod({
      name: 'wrong',
      config: { linux: { security_context: { namespace_options: { userns_options: options } } } },
    });
  const twice = [mappings[0]!, { ...mappings[0]!, container_id: length }];
  for (const options of [
    { ...users, uids: twice, gids: twice },
    { ...users, gids: [{ container_id: 1, host_id: firstId, length }] },
    { mode: 'CONTAINER' },
    { mode: 'TARGET' },
    { ...users, mode: 'NODE' },
  ])
    await expect(run(options)).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
  const other = [{ ...mappings[0]!, host_id: 2_000_000 }];
  const context = { namespace_options: { userns_options: { ...users, uids: other } } };
  await expect(node.createContainer(pod, config({ context }))).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
});
