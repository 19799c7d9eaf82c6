import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { chown, mkdir, readFile, readdir, readlink, rm, rmdir, stat, symlink, writeFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { execa } from 'execa';
import { JailFixture, jailer, mountsOf, statusOf } from '../harness/jail-fixture.ts';

const fileCapabilities = '000000000800001b'; // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD
const none = '0000000000000000';
const memoryBytes = 16 * 1024 * 1024;

let jail: JailFixture;
/** Sealed memory of a template, whose first page holds a text. */
let memory: { pid: number; path: string };

beforeAll(async () => {
  jail = await JailFixture.create();
  memory = await jail.hold(memoryBytes);
  await writeFile(memory.path, 'template', { flag: 'r+' });
  const { stdout } = await execa(jailer, ['seal', memory.path]);
  expect(stdout).toBe('write,grow,shrink,seal');
});

afterAll(async () => {
  await jail[Symbol.asyncDispose]();
});

describe('a QEMU that the jailer started', () => {
  let pid: number;

  beforeAll(async () => {
    const options = [
      ...['--file-capabilities', '--tap', 'tap0', '--memory', memory.path, '--state-file', jail.path('state-file')],
      ...['--rlimit', 'nofile=512:1024,fsize=1000000000', '--console', jail.path('console.log')],
    ];
    pid = await jail.startQemu(options, [
      ...['-netdev', 'tap,id=net,fd=10', '-device', 'virtio-net-pci,netdev=net'],
      ...['-fsdev', 'local,id=share,path=/share,security_model=passthrough,multidevs=remap'],
      ...['-device', 'virtio-9p-pci,fsdev=share,mount_tag=share'],
      ...['-blockdev', 'driver=file,node-name=scratch,filename=/disks/scratch.img'],
      ...['-device', 'virtio-blk-pci,drive=scratch'],
      ...[
        '-add-fd',
        'fd=16,set=1',
        '-chardev',
        'file,id=console,path=/dev/fdset/1,append=on',
        '-serial',
        'chardev:console',
      ],
    ]);
  });

  afterAll(async () => {
    await jail.kill(pid);
  });

  test('is the process that was spawned, as the pod user and nobody else', async () => {
    expect(await readlink(`/proc/${String(pid)}/exe`)).toContain('qemu-system');
    const four = Array.from({ length: 4 }, () => String(jail.uid)).join('\t');
    expect(await statusOf(pid, 'Uid')).toBe(four);
    expect(await statusOf(pid, 'Gid')).toBe(four);
    expect(await statusOf(pid, 'Groups')).toBe('');
  });

  test('has the file capabilities and can never get another', async () => {
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      expect([set, await statusOf(pid, set)]).toEqual([set, fileCapabilities]);
    expect(await statusOf(pid, 'NoNewPrivs')).toBe('1');
    expect(await statusOf(pid, 'Seccomp')).toBe('2');
    // The jailer's filter and QEMU's own.
    expect(await statusOf(pid, 'Seccomp_filters')).toBe('2');
  });

  test('has namespaces of its own and the network of the pod', async () => {
    const of = async (name: string, process: number | 'self'): Promise<string> =>
      readlink(`/proc/${String(process)}/ns/${name}`);
    for (const name of ['mnt', 'ipc', 'uts', 'cgroup', 'net'])
      expect(await of(name, pid)).not.toBe(await of(name, 'self'));
    expect(await of('net', pid)).toBe(`net:[${String((await stat(jail.netns)).ino)}]`);
    expect(await of('pid', pid)).toBe(await of('pid', 'self'));
  });

  test('leads a session and sits in every cgroup it was given', async () => {
    const fields = (await readFile(`/proc/${String(pid)}/stat`, 'utf8')).split(') ')[1]!.split(' ');
    expect(fields.slice(2, 4)).toEqual([String(pid), String(pid)]);
    const name = jail.cgroups[0]!.split('/').at(-1)!;
    const joined = (await readFile(`/proc/${String(pid)}/cgroup`, 'utf8'))
      .split('\n')
      .filter((line) => line.endsWith(`:/${name}`));
    expect(joined).toHaveLength(jail.cgroups.length);
  });

  test('has the limits it was given, and no core dumps', async () => {
    const limits = await readFile(`/proc/${String(pid)}/limits`, 'utf8');
    expect(limits).toMatch(/^Max open files\s+512\s+1024\s/m);
    expect(limits).toMatch(/^Max file size\s+1000000000\s+1000000000\s/m);
    expect(limits).toMatch(/^Max core file size\s+0\s+0\s/m);
    expect(await readFile(`/proc/${String(pid)}/coredump_filter`, 'utf8')).toBe('00000000\n');
  });

  test('sees the listed files and no others', async () => {
    const root = `/proc/${String(pid)}/root`;
    const links = (
      await Promise.all(
        ['bin', 'lib', 'lib64'].map(async (name) =>
          stat(`/${name}`).then(
            () => [name],
            () => [],
          ),
        ),
      )
    ).flat();
    expect((await readdir(root)).toSorted()).toEqual(
      [...links, 'dev', 'disks', 'etc', 'guest', 'proc', 'share', 'usr'].toSorted(),
    );
    expect(await readdir(`${root}/etc`)).toEqual(['ld.so.cache']);
    expect((await readdir(`${root}/dev`)).toSorted()).toEqual(['null', 'urandom', 'zero']);
    expect((await readdir(`${root}/disks`)).toSorted()).toEqual(['image', 'scratch.img']);
    expect(await readlink(`/proc/${String(pid)}/cwd`)).toBe('/');
  });

  test('has no mount with more rights than it needs', async () => {
    const mounts = await mountsOf(pid);
    const writable = mounts.filter(({ options }) => !options.includes('ro')).map(({ target }) => target);
    expect(writable.toSorted()).toEqual(['/disks/scratch.img']);
    expect(mounts.filter(({ options }) => !options.includes('nosuid'))).toEqual([]);
    expect(mounts.filter(({ options }) => !options.includes('nodev')).map(({ target }) => target)).toEqual(['/dev']);
    const executable = mounts.filter(({ options }) => !options.includes('noexec')).map(({ target }) => target);
    expect(executable.filter((target) => !/^\/(usr|bin|lib|lib64)$/.test(target))).toEqual([]);
    // What is mounted here stays here, and what is mounted on the host there.
    expect(mounts.filter(({ propagation }) => propagation.length > 0)).toEqual([]);
  });

  test('has the tap, memory, state file, monitor and console, and none of the parent descriptors', async () => {
    const targets = new Map<string, string>();
    for (const name of await readdir(`/proc/${String(pid)}/fd`))
      targets.set(name, await readlink(`/proc/${String(pid)}/fd/${name}`));
    expect(targets.get('10')).toBe('/dev/net/tun');
    expect(targets.get('11')).toContain('memfd:kelyfos-test');
    expect(await readFile(`/proc/${String(pid)}/fdinfo/10`, 'utf8')).toMatch(/^iff:\s*tap0$/m);
    expect(await readFile(`/proc/${String(pid)}/fd/12`, 'utf8')).toBe('state of the template');
    expect(targets.get('13')).toMatch(/^socket:/);
    const { uid, mode } = await stat(jail.path('console.log'));
    expect([uid, mode & 0o777]).toEqual([0, 0o600]);
    const outside = [...targets.values()].filter(
      (target) => target.startsWith('/') && !/^\/(disks|share|memfd:kelyfos-test|dev\/null|dev\/net\/tun)/.test(target),
    );
    // Two files whose mounts are gone with the host's tree: the state file, which was bound by itself, and the console.
    expect(outside).toEqual(['/', expect.stringMatching(/console\.log$/), expect.stringMatching(/console\.log$/)]);
    expect(await readFile(`/proc/${String(pid)}/environ`, 'utf8')).toBe('PATH=/usr/local/bin:/usr/bin\0');
  });

  test('has written to its memory, and the template is as it was', async () => {
    // prealloc=on has touched every page for writing.
    expect((await readFile(memory.path)).subarray(0, 8).toString()).toBe('template');
    expect(await readFile(`/proc/${String(pid)}/smaps`, 'utf8')).toMatch(
      /memfd:kelyfos-test[^]*?Private_Dirty: +16384 kB/,
    );
  });

  test('sees a volume that is bound into the jail later, without devices; the host is free to change it', async () => {
    await mkdir(jail.path('volume/below'), { recursive: true });
    await writeFile(jail.path('volume/file'), 'later');
    await execa('mknod', [jail.path('volume/random'), 'c', '1', '8']);
    await execa('mount', ['-t', 'tmpfs', 'tmpfs', jail.path('volume/below')]);
    for (const [index, options] of [[], ['--read-only', 'top'], ['--read-only', 'all']].entries()) {
      await mkdir(jail.path(`share/${String(index)}`));
      expect(await jail.bind(pid, 'volume', `/share/${String(index)}`, ...options)).toMatchObject({ exitCode: 0 });
    }
    expect(await readFile(`/proc/${String(pid)}/root/share/0/file`, 'utf8')).toBe('later');
    const bound = (await mountsOf(pid)).filter(({ target }) => target.startsWith('/share/'));
    expect(bound.map(({ target, options }) => `${target} ${options[0]!}`)).toEqual([
      ...['/share/0 rw', '/share/0/below rw'],
      ...['/share/1 ro', '/share/1/below rw'],
      ...['/share/2 ro', '/share/2/below ro'],
    ]);
    for (const { options } of bound) expect(options).toEqual(expect.arrayContaining(['nosuid', 'nodev']));

    expect(await readdir(jail.path('share/0'))).toEqual([]);
    await execa('umount', [jail.path('volume/below')]);
    await rmdir(jail.path('volume/below'));
    for (const index of ['0', '1', '2']) await rmdir(jail.path(`share/${index}`));
    expect((await mountsOf(pid)).filter(({ target }) => target.startsWith('/share/'))).toEqual([]);
  });

  test('sees and makes files of a volume with the owners that it is mapped to', async () => {
    await mkdir(jail.path('owned'));
    await mkdir(jail.path('share/owned'));
    for (const [name, owner] of Object.entries({ root: 0, user: 1000, beyond: 70_000 })) {
      await writeFile(jail.path(`owned/${name}`), '');
      await chown(jail.path(`owned/${name}`), owner, owner);
    }
    const maps = ['--map-users', '0:100000:65536', '--map-groups', '0:200000:65536'];
    expect(await jail.bind(pid, 'owned', '/share/owned', ...maps)).toMatchObject({ exitCode: 0, stderr: '' });
    const inJail = ['--mount', '--target', String(pid), '--'];
    const { stdout } = await execa('nsenter', [
      ...[...inJail, 'stat', '--format=%n %u:%g'],
      ...['root', 'user', 'beyond'].map((name) => `/share/owned/${name}`),
    ]);
    expect(stdout.split('\n')).toEqual([
      '/share/owned/root 100000:200000',
      '/share/owned/user 101000:201000',
      '/share/owned/beyond 65534:65534',
    ]);
    // As QEMU does for 9p: made as itself, then given away.
    const capabilities = '+chown,+dac_override,+fowner';
    const asQemu = [
      ...['--reuid', String(jail.uid), '--regid', String(jail.uid), '--clear-groups'],
      ...['--inh-caps', capabilities, '--ambient-caps', capabilities],
    ];
    const script = 'echo x > /share/owned/new && chown 100005:200006 /share/owned/new';
    await execa('nsenter', [...inJail, 'setpriv', ...asQemu, 'sh', '-c', script]);
    const { uid, gid } = await stat(jail.path('owned/new'));
    expect([uid, gid]).toEqual([5, 6]);
    await rmdir(jail.path('share/owned'));
  });

  test('hears of later mounts in a volume only where it shall', async () => {
    await mkdir(jail.path('source/later'), { recursive: true });
    await execa('mount', ['--bind', jail.path('source'), jail.path('source')]);
    try {
      await execa('mount', ['--make-private', jail.path('source')]);
      await execa('mount', ['--make-shared', jail.path('source')]);
      for (const propagation of ['private', 'slave']) {
        await mkdir(jail.path(`share/${propagation}`));
        await jail.bind(pid, 'source', `/share/${propagation}`, '--propagation', propagation);
      }
      await execa('mount', ['-t', 'tmpfs', 'tmpfs', jail.path('source/later')]);
      const targets = (await mountsOf(pid)).map(({ target }) => target);
      expect(targets.filter((target) => target.endsWith('/later'))).toEqual(['/share/slave/later']);
    } finally {
      await execa('umount', ['--recursive', jail.path('source')]);
      for (const propagation of ['private', 'slave']) await rmdir(jail.path(`share/${propagation}`));
    }
  });
});

describe('what took QEMU over', () => {
  const all = ['--file-capabilities'];

  /** Every command must fail, whatever the shell makes of its words. */
  async function fails(commands: readonly string[], options: readonly string[] = all): Promise<void> {
    const script = commands
      .map((command, index) => `if ( ${command} ) >/dev/null 2>&1; then echo "${String(index)} worked"; fi`)
      .join('\n');
    const { stdout, stderr, exitCode } = await jail.sh(`${script}\necho end`, options);
    expect({ stdout, stderr, exitCode }).toEqual({ stdout: 'end', stderr: '', exitCode: 0 });
  }

  test('does not reach files of the host', async () => {
    await fails([
      'cat /etc/shadow',
      'cat /etc/passwd',
      'ls /root',
      'ls /var',
      'ls /sys',
      'ls /tmp',
      `ls ${jail.path('other-pod')}`,
    ]);
    await fails([
      'cat /proc/self/root/etc/shadow',
      'cd /.. && ls root',
      'cat /proc/sys/kernel/hostname',
      'cat /proc/kcore',
      'cat /proc/cmdline',
    ]);
  });

  test('does not see, signal or trace other processes', async () => {
    const { stdout } = await jail.sh('ls /proc | grep -c "^[0-9]"; echo $$', all);
    // The shell, and for a moment the two of the pipe.
    expect(Number(stdout.split('\n')[0])).toBeLessThanOrEqual(3);
    const host = String(process.pid);
    await fails([
      'kill -0 1',
      `kill -0 ${host}`,
      `ls /proc/1`,
      `cat /proc/${host}/environ`,
      `ls ${memory.path.replace('/3', '')}`,
    ]);
  });

  test('cannot write where others read', async () => {
    const open = [...all, '--memory', memory.path, '--state-file', jail.path('state-file')];
    await fails(
      [
        'echo x > /proc/self/fd/11',
        'echo x >&11',
        'echo x > /proc/self/fd/12',
        'echo x > /disks/image',
        'rm /disks/image',
        'echo x > /usr/x',
        'echo x > /x',
        'mkdir /share/x',
        'echo x > /guest/x',
        'mount -t tmpfs none /share',
        'mount -o remount,rw /disks',
        'chroot /disks /bin/busybox',
      ],
      open,
    );
    expect(await readFile(jail.path('state-file'), 'utf8')).toBe('state of the template');
    const { stderr } = await jail.sh('echo x >&11', open);
    expect(stderr).toContain('Operation not permitted');
  });

  test("can use what is the pod's own", async () => {
    const { stdout, stderr } = await jail.sh(
      'echo x > /disks/scratch.img && echo z > /dev/null && hostname && cut -d: -f1 -s /proc/self/net/dev | tr -d " " | sort',
      all,
    );
    expect({ stdout, stderr }).toEqual({ stdout: 'vm\nlo\ntap0', stderr: '' });
  });

  test('opens no device, whichever way it comes', async () => {
    for (const folder of ['share/plain', 'share/own', 'devices', 'plain/nodes', 'own'])
      await mkdir(jail.path(folder), { recursive: true });
    await execa('mknod', ['--mode', '666', jail.path('devices/random'), 'c', '1', '8']);
    await execa('mknod', ['--mode', '666', jail.path('devices/null'), 'c', '1', '3']);
    await execa('mount', ['--bind', jail.path('plain'), jail.path('plain')]);
    try {
      await execa('mount', ['--make-private', jail.path('plain')]);
      await execa('mount', ['--make-shared', jail.path('plain')]);
      const shell = await jail.startShell(
        'while ! [ -e /share/plain/nodes/random ]; do usleep 10000; done; mknod /share/own/made c 1 8; cat /share/plain/nodes/null && echo null; head -c 1 /share/plain/nodes/random && echo random; head -c 1 /share/own/made && echo made; mknod /dev/made c 1 8 && echo dev; true',
        all,
      );
      await jail.bind(shell.pid, 'own', '/share/own');
      await jail.bind(shell.pid, 'plain', '/share/plain', '--propagation', 'slave');
      // What is mounted later arrives as it is: without nodev.
      await execa('mount', ['--bind', jail.path('devices'), jail.path('plain/nodes')]);
      const { stdout, stderr } = await shell.ended;
      // Allowed by the cgroup and not held back by the mount: shows that the test would notice.
      expect(stdout).toBe('null');
      expect(stderr).toMatch(
        /nodes\/random: Operation not permitted[^]*own\/made: Permission denied[^]*dev\/made: Read-only file system/,
      );
    } finally {
      await execa('umount', ['--recursive', jail.path('plain')]);
      for (const folder of ['share/plain', 'share/own']) await rmdir(jail.path(folder));
    }
  });

  test('becomes root in no namespace of its own', async () => {
    await fails(['unshare --user true', 'unshare --map-root-user true', 'unshare --mount true', 'unshare --net true']);
    // Netlink and packet sockets: the busybox tools begin with one.
    await fails(['ip link', 'arping -c 1 -w 1 -I tap0 10.0.0.1']);
  });

  test('has no capability unless it serves files', async () => {
    const { stdout } = await jail.sh('grep ^Cap /proc/self/status | cut -f2 | sort -u');
    expect(stdout).toBe(none);
  });

  test('gets /dev/kvm only when asked for', async () => {
    await fails(['ls /dev/kvm']);
    const { stdout, stderr } = await jail.sh('stat -c "%u %a" /dev/kvm && : <>/dev/kvm', ['--kvm']);
    expect({ stdout, stderr }).toEqual({ stdout: `${String(jail.uid)} 600`, stderr: '' });
  });
});

describe('template memory', () => {
  test('can be mapped shared until it is sealed, and cannot be sealed while it is', async () => {
    const fresh = await jail.hold(memoryBytes);
    const writer = await jail.startQemu(['--memory', fresh.path], [], true);
    const busy = await execa(jailer, ['seal', fresh.path], { reject: false });
    expect(busy.exitCode).toBe(127);
    expect(busy.stderr).toMatch(
      /^kelyfos-jailer: seal memory: \/proc\/\d+\/fd\/3: a process still has it mapped shared and writable/,
    );
    await jail.kill(writer);
    expect((await execa(jailer, ['seal', fresh.path])).stdout).toBe('write,grow,shrink,seal');
    // Sealing again is fine: the daemon may not know how far an earlier one got.
    expect((await execa(jailer, ['seal', fresh.path])).stdout).toBe('write,grow,shrink,seal');
    await expect(jail.startQemu(['--memory', fresh.path], [], true)).rejects.toThrow('Operation not permitted');
    await jail.kill(fresh.pid);
  });

  test('is held by a process that has nothing else', async () => {
    expect(await statusOf(memory.pid, 'Uid')).toMatch(/^65534\t65534/);
    for (const set of ['CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect(await statusOf(memory.pid, set)).toBe(none);
    expect(await statusOf(memory.pid, 'Seccomp')).toBe('1');
    const names = await readdir(`/proc/${String(memory.pid)}/fd`);
    expect(names.filter((name) => Number(name) < 3)).toEqual([]);
    const stranger = await execa(
      'setpriv',
      ['--reuid', '65534', '--regid', '65534', '--clear-groups', 'cat', memory.path],
      { reject: false },
    );
    expect(stranger.stderr).toContain('Permission denied');
  });
});

describe('the jailer itself', () => {
  test('says in one line what failed', async () => {
    const said = async (args: readonly string[]): Promise<[number | undefined, string]> => {
      const { exitCode, stderr } = await jail.run(args);
      return [exitCode, stderr];
    };
    expect(await said(['--tap', 'tap7', '--', 'busybox'])).toEqual([
      127,
      expect.stringMatching(/^kelyfos-jailer: find tap: tap7: No such device .*$/),
    ]);
    expect(await said(['--', 'no-such-program'])).toEqual([
      127,
      expect.stringMatching(/^kelyfos-jailer: execute: no-such-program: No such file .*$/),
    ]);
    expect(await said(['--guest', jail.path('none'), '--', 'busybox'])).toEqual([
      127,
      `kelyfos-jailer: find: ${jail.path('none')}: No such file or directory (os error 2)`,
    ]);
    expect(await said(['--uid', '0', '--', 'busybox'])).toEqual([
      2,
      'kelyfos-jailer: usage: --uid: 0 is not an unprivileged id',
    ]);
  });

  test('goes on with a warning when a limit may not be raised', async () => {
    const { stdout, stderr, exitCode } = await jail.sh('echo on', ['--rlimit', 'nofile=4000000000']);
    expect({ stdout, exitCode }).toEqual({ stdout: 'on', exitCode: 0 });
    expect(stderr).toMatch(/^kelyfos-jailer: warning: rlimit nofile: stays at \d+, may not be raised to 4000000000$/);
  });

  test('says where owners can be mapped', async () => {
    expect((await execa(jailer, ['mappable', jail.state], { reject: false })).stderr).toBe('');
    const { exitCode, stderr } = await execa(jailer, ['mappable', '/proc'], { reject: false });
    expect([exitCode, stderr]).toEqual([
      127,
      expect.stringMatching(/^kelyfos-jailer: map owners: \/proc: not with this kind of file system$/),
    ]);
  });

  test('does not mount through a symbolic link', async () => {
    await symlink('/disks', jail.path('share/link'));
    const shell = await jail.startShell('while [ -L /share/link ]; do usleep 10000; done');
    expect(await jail.bind(shell.pid, 'guest', '/share/link')).toMatchObject({
      exitCode: 127,
      stderr: expect.stringContaining('mount volume: /share/link') as unknown,
    });
    await rm(jail.path('share/link'));
    await shell.ended;
  });

  test('takes milliseconds', async () => {
    const median = async (command: string, args: readonly string[]): Promise<number> => {
      const times: number[] = [];
      for (let round = 0; round < 21; round++) {
        const start = performance.now();
        await execa(command, args);
        times.push(performance.now() - start);
      }
      return times.toSorted((a, b) => a - b)[10]!;
    };
    const bare = await median('busybox', ['true']);
    const options = [
      '--file-capabilities',
      '--tap',
      'tap0',
      '--memory',
      memory.path,
      '--state-file',
      jail.path('state-file'),
    ];
    const jailed = await median(jailer, ['run', ...jail.options(), ...options, '--', 'busybox', 'true']);
    // Joining a cgroup waits for all processors: under load this is many times what an idle machine takes.
    expect(jailed - bare).toBeLessThan(50);
    process.stdout.write(`jailer: ${(jailed - bare).toFixed(1)} ms from exec to exec\n`);
  });
});
