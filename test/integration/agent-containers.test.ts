import { chmod, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ConnectError } from '@connectrpc/connect';
import { execa } from 'execa';
import {
  ContainerInfo_State,
  Mount_Kind,
  Mount_Propagation,
  Namespaces_Mode,
  Seccomp_Kind,
} from '../../src/agent/gen/agent/v1/agent_pb.js';
import { type ContainerGuest, startContainerGuest } from '../harness/container-guest.ts';
import {
  type CreateRequest,
  defaultCapabilities,
  execIn,
  type Outcome,
  readOutput,
  request,
  runContainer,
} from '../harness/guest-containers.ts';

/** What the guest agent makes of one CreateContainer, seen from inside the container. */
let it: ContainerGuest;
let count = 0;

beforeAll(async () => {
  it = await startContainerGuest(async (root) => {
    await symlink('/', join(root, 'evil'));
    await symlink('../../../../../../etc', join(root, 'climb'));
    await symlink('/proc/self/fd', join(root, 'magic'));
    await writeFile(join(root, 'bin/data'), 'no program\n');
    await writeFile(join(root, 'bin/broken'), 'no program either\n');
    await chmod(join(root, 'bin/broken'), 0o755);
  });
}, 920_000);

afterAll(async () => {
  await it[Symbol.asyncDispose]();
});

const nextId = (): string => `c-${String((count += 1))}`;

async function sh(script: string, more: CreateRequest = {}): Promise<Outcome> {
  return await runContainer(it.client(), request(nextId(), ['sh', '-c', script], more));
}

async function stdout(script: string, more: CreateRequest = {}): Promise<string> {
  const outcome = await sh(script, more);
  return outcome.stdout.trim();
}

const process = (fields: object): CreateRequest => ({ process: fields });
/** The usual mounts and some more. */
const withMounts = (...mounts: object[]): CreateRequest => ({
  mounts: [...(request('x', []).mounts ?? []), ...mounts],
});
const bind = (source: string, destination: string, more: object = {}): object => ({
  kind: Mount_Kind.BIND,
  source,
  destination,
  ...more,
});

async function failure(call: Promise<unknown>): Promise<string> {
  const error: unknown = await call.then(
    () => new Error('no error'),
    (reason: unknown) => reason,
  );
  return error instanceof ConnectError ? error.message : String(error);
}

describe('programs', () => {
  test('exit codes, streams and signals', async () => {
    const outcome = await sh('echo out; echo err >&2; exit 3');
    expect(outcome).toMatchObject({ stdout: 'out\n', stderr: 'err\n', exit: { code: 3, signal: 0, oomKilled: false } });
    expect((await sh('kill -9 $$; sleep 1')).exit.code).toBe(0); // the first process of a namespace is immune
    expect((await sh('true')).exit.exitedAtNs).toBeGreaterThan(0n);
  });

  test.each([
    [['/bin/nope'], 'exec: "/bin/nope": no such file or directory'],
    [['nope'], 'exec: "nope": executable file not found in $PATH'],
    [['/bin/data'], 'exec: "/bin/data": permission denied'],
    [['/bin/broken'], 'exec: "/bin/broken": exec format error'],
    [['/etc'], 'exec: "/etc": is a directory'],
  ])('%s cannot be executed, which Start says', async (argv, message) => {
    const id = nextId();
    await it.client().createContainer(request(id, argv));
    expect(await failure(it.client().startContainer({ id }))).toBe(`[failed_precondition] ${message}`);
    expect(await failure(it.client().startContainer({ id }))).toBe(`[failed_precondition] ${message}`);
    const { exit } = await readOutput(it.client(), id);
    expect(exit).toMatchObject({ code: 128, error: message });
    const { containers } = await it.client().listContainers({});
    expect(containers).toMatchObject([{ id, state: ContainerInfo_State.EXITED, exit: { code: 128, error: message } }]);
    await it.client().removeContainer({ id });
  });

  test('many may wait for their start, and end without it', async () => {
    const client = it.client();
    const ids = Array.from({ length: 20 }, nextId);
    await Promise.all(ids.map(async (id) => client.createContainer(request(id, ['sleep', '60']))));
    const { containers } = await client.stats({});
    expect(containers).toHaveLength(ids.length);
    const [first = '', second = '', ...others] = ids;
    await client.signalContainer({ id: first, signal: 9 });
    const killed = await readOutput(client, first);
    expect(killed).toMatchObject({ stdout: '', exit: { code: 137, signal: 9 } });
    expect(await failure(client.startContainer({ id: first }))).toMatch(/is exited, not created/);
    await client.startContainer({ id: second });
    expect((await execIn(client, { containerId: second, inherit: true, process: { argv: ['true'] } })).exit.code).toBe(
      0,
    );
    await Promise.all([first, second, ...others].map(async (id) => client.removeContainer({ id })));
    expect(await stdout('echo again')).toBe('again');
  });

  test('signals do what they do by default', async () => {
    expect(await stdout('grep -E "Sig(Blk|Ign)" /proc/self/status | tr -d "\\n"')).toBe(
      'SigBlk:\t0000000000000000SigIgn:\t0000000000000000',
    );
    expect(await stdout('yes | head -n 1')).toBe('y');
  });

  test('a path with a slash is relative to the working directory', async () => {
    const create = request(nextId(), ['./busybox', 'echo', 'here'], process({ cwd: '/bin' }));
    expect((await runContainer(it.client(), create)).stdout).toBe('here\n');
  });

  test('nothing runs before the start, and repeated calls have the same answers', async () => {
    const id = nextId();
    const create = request(id, ['sleep', '60']);
    const first = await it.client().createContainer(create);
    expect(await it.client().createContainer(create)).toEqual(first);
    expect(await failure(it.client().createContainer({ ...create, maskedPaths: [] }))).toMatch(/already_exists/);
    const started = await it.client().startContainer({ id });
    expect(await it.client().startContainer({ id })).toEqual(started);
    await it.client().removeContainer({ id });
    await it.client().removeContainer({ id });
    expect(await failure(it.client().startContainer({ id }))).toMatch(/not_found/);
  });
});

describe('users', () => {
  const idOf = async (user: object): Promise<string> =>
    await stdout('id -u; id -g; id -G; echo $HOME', process({ user })).then((text) => text.replaceAll('\n', '|'));

  test.each([
    [{ uid: 33, gid: 7, additionalGids: [9] }, '33|7|7 9 50|/var/www'],
    [{ username: 'web' }, '33|44|44 50|/var/www'],
    [{ username: 'web', strictGroups: true }, '33|44|44|/var/www'],
    [{ username: 'web:logs' }, '33|50|50|/var/www'],
    [{ username: '33' }, '33|44|44 50|/var/www'],
    [{ username: '4242:77' }, '4242|77|77|/'],
    [{}, '0|0|0 51|/root'],
  ])('%j', async (user, expected) => {
    expect(await idOf(user)).toBe(expected);
  });

  test('unknown names are errors', async () => {
    expect(await failure(idOf({ username: 'nobody-here' }))).toBe(
      `[invalid_argument] process.user: no user "nobody-here" in the container's /etc/passwd`,
    );
    expect(await failure(idOf({ username: 'web:nothing' }))).toMatch(/no group "nothing"/);
  });
});

describe('privileges', () => {
  const status = async (fields: object): Promise<Record<string, string>> => {
    const lines = (await stdout('cat /proc/self/status', process(fields))).split('\n');
    return Object.fromEntries(lines.map((line) => line.split(':\t').map((part) => part.trim()) as [string, string]));
  };
  const defaults = '00000000a80425fb';
  const none = '0000000000000000';

  test('capabilities are exactly those asked for', async () => {
    const root = await status({});
    expect(root).toMatchObject({ CapInh: none, CapPrm: defaults, CapEff: defaults, CapBnd: defaults, CapAmb: none });
    const user = await status({ user: { uid: 33 } });
    expect(user).toMatchObject({ CapPrm: none, CapEff: none, CapBnd: defaults, NoNewPrivs: '0', Seccomp: '2' });
    const bound = ['CAP_NET_BIND_SERVICE'];
    const sets = { bounding: bound, effective: bound, permitted: bound, inheritable: bound, ambient: bound };
    const ambient = await status({ user: { uid: 33 }, capabilities: sets });
    const one = '0000000000000400';
    expect(ambient).toMatchObject({ CapInh: one, CapPrm: one, CapEff: one, CapBnd: one, CapAmb: one });
    expect(await status({ capabilities: {} })).toMatchObject({ CapPrm: none, CapBnd: none });
  });

  test('no_new_privileges, limits, score and working directory', async () => {
    expect(await status({ noNewPrivileges: true })).toMatchObject({ NoNewPrivs: '1', Seccomp: '2' });
    const rlimits = [{ type: 'RLIMIT_NOFILE', soft: 100n, hard: 200n }];
    const fields = { rlimits, oomScoreAdj: 500, cwd: '/made/for/it' };
    expect(
      await stdout('ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; pwd; ls /proc/self/fd', process(fields)),
    ).toBe('100\n200\n500\n/made/for/it\n0\n1\n2\n3');
  });

  test('the default filter, none, and one of the user', async () => {
    const script = 'unshare -m true 2>&1; mkdir /tmp/x 2>&1; grep -w Seccomp /proc/self/status';
    expect(await stdout(script)).toBe('unshare: unshare(0x20000): Operation not permitted\nSeccomp:\t2');
    const unconfined = { seccomp: { kind: Seccomp_Kind.UNCONFINED } };
    expect(await stdout('grep -w Seccomp /proc/self/status', process(unconfined))).toBe('Seccomp:\t0');
    const profile = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 28 }],
    };
    const own = { seccomp: { kind: Seccomp_Kind.PROFILE, profile: Buffer.from(JSON.stringify(profile)) } };
    expect(await stdout('mkdir /tmp/x 2>&1', process(own))).toBe(
      `mkdir: can't create directory '/tmp/x': No space left on device`,
    );
    // For a user without capabilities, and without no_new_privileges, it is installed all the same.
    expect(await stdout('mkdir /tmp/x 2>&1', process({ ...own, user: { uid: 33 } }))).toMatch(/No space/);
    const bad = { seccomp: { kind: Seccomp_Kind.PROFILE, profile: Buffer.from('{}') } };
    expect(await failure(stdout('true', process(bad)))).toMatch(/invalid_argument.*profile\.defaultAction is missing/);
  });
});

describe('devices', () => {
  test('the default ones are there and nothing else can be opened', async () => {
    expect(await stdout('head -c 3 /dev/zero | wc -c; echo x > /dev/null; ls /dev | xargs')).toBe(
      '3\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero',
    );
    const open = 'mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk 2>&1';
    expect(await stdout(open)).toBe('head: /tmp/disk: Operation not permitted');
  });

  test('those asked for can be used as allowed, and all by who is privileged', async () => {
    const device = { path: '/dev/x/mem', type: 'c', major: 1n, minor: 9n, mode: 0o640, uid: 33, gid: 44, access: 'r' };
    expect(
      await stdout('ls -ln /dev/x/mem | cut -c 1-45; head -c 4 /dev/x/mem | wc -c', { devices: [device] }),
    ).toMatch(/^crw-r----- +1 33 +44 +1, +9[^]*4$/);
    const open = 'mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk >/dev/null 2>&1; echo $?';
    expect(await stdout(open, { devices: [{ all: true }] })).toBe('0');
  });
});

describe('root file system', () => {
  test('masked and read-only paths', async () => {
    const script =
      'wc -c < /proc/timer_list; ls /sys/firmware | wc -l; echo 1 2>&1 > /proc/sys/kernel/pid_max; touch /sys/firmware/x 2>&1';
    const outcome = await sh(script);
    expect(outcome.stdout).toMatch(/^0\n0\n/);
    expect(outcome.stdout + outcome.stderr).toMatch(/pid_max: Read-only file system/);
    expect(outcome.stdout + outcome.stderr).toMatch(/firmware\/x: Read-only file system/);
  });

  test('a read-only root still gets its mount points', async () => {
    const mounts = withMounts({ kind: Mount_Kind.TMPFS, destination: '/new/place', options: ['size=1m', 'nosuid'] });
    const more = { ...mounts, rootfs: { imageDisk: 'slot0', readonly: true } };
    expect(
      await stdout('touch /x 2>&1; touch /new/place/y && ls /new/place; grep new/place /proc/mounts', more),
    ).toMatch(/^touch: \/x: Read-only file system\ny\ntmpfs \/new\/place tmpfs rw,nosuid,relatime,size=1024k/);
  });

  test('writes of one container are not seen by the next', async () => {
    expect(await stdout('echo mine > /bin/data; cat /bin/data')).toBe('mine');
    expect(await stdout('cat /bin/data')).toBe('no program');
  });
});

describe('mounts', () => {
  const share = (path: string): string => join(it.guest.share, path);

  test('folders and files of the share, read-only or not, live', async () => {
    await mkdir(share('vol/sub'), { recursive: true });
    await writeFile(share('vol/file'), 'from the host\n');
    await writeFile(share('single'), 'one file\n');
    const more = withMounts(
      bind('/share/vol', '/data'),
      bind('/share/vol', '/ro', { readonly: true, options: ['rbind', 'noexec'] }),
      bind('/share/single', '/etc/config/single.txt', { readonly: true }),
    );
    const script =
      'cat /data/file /etc/config/single.txt; touch /ro/x 2>&1; echo hello > /data/sub/new; grep " /ro " /proc/mounts';
    const text = await stdout(script, more);
    expect(text).toMatch(/^from the host\none file\ntouch: \/ro\/x: Read-only file system\nshare \/ro 9p ro,.*noexec/);
    expect(await readFile(share('vol/sub/new'), 'utf8')).toBe('hello\n');
  });

  test('no link of the image or of a volume leads out', async () => {
    await mkdir(share('out'), { recursive: true });
    await symlink('/etc', share('out/link'));
    const more = withMounts(
      { kind: Mount_Kind.TMPFS, destination: '/evil/inside', options: ['mode=0700'] },
      { kind: Mount_Kind.TMPFS, destination: '/climb/deep', options: ['mode=0700'] },
    );
    expect(await stdout('ls -d /inside /etc/deep; grep -c tmpfs.*mode=700 /proc/mounts', more)).toBe(
      '/etc/deep\n/inside\n2',
    );
    expect(await failure(sh('true', withMounts(bind('/share/out/link', '/data'))))).toMatch(
      /cannot open source "\/share\/out\/link"/,
    );
    expect(await failure(sh('true', withMounts({ kind: Mount_Kind.TMPFS, destination: '/magic/3/x' })))).toMatch(
      /internal.*cannot mount "\/magic\/3\/x"/,
    );
    const device = { path: '/evil/dev/own', type: 'c', major: 1n, minor: 3n, access: 'rw' };
    expect(await stdout('ls /dev/own', { devices: [device] })).toBe('/dev/own');
    expect(await failure(sh('true', process({ cwd: '/magic/4' })))).toMatch(/cannot enter process\.cwd/);
  });

  test('what is wrong is said', async () => {
    expect(await failure(sh('true', withMounts(bind('/share/none', '/data'))))).toMatch(
      /not_found.*cannot open source "\/share\/none": no such file/,
    );
    expect(await failure(sh('true', withMounts(bind('/share', '/proc/sys'))))).toMatch(
      /invalid_argument.*inside \/proc/,
    );
    expect(await failure(sh('true', withMounts({ kind: 99, destination: '/x' })))).toMatch(/invalid_argument.*kind 99/);
    expect(
      await failure(sh('true', withMounts({ kind: Mount_Kind.BLOCK, source: 'none', destination: '/x' }))),
    ).toMatch(/not_found.*none/);
    expect(await failure(sh('true', { rootfs: { imageDisk: 'slot7x' } }))).toMatch(/not_found.*slot7x/);
    expect((await it.client().listContainers({})).containers).toEqual([]);
  });

  test('a disk with a file system', async () => {
    const disk = share('../disk.ext4');
    await mkdir(share('on-disk'));
    await writeFile(share('on-disk/file'), 'on a disk\n');
    await execa('mkfs.ext4', ['-q', '-d', share('on-disk'), disk, '8M'], { timeout: 30_000 });
    await it.guest.fillSlot(1, disk);
    const block = { kind: Mount_Kind.BLOCK, source: 'slot1', destination: '/disk', readonly: true };
    expect(await stdout('cat /disk/file; touch /disk/x 2>&1', withMounts(block))).toBe(
      'on a disk\ntouch: /disk/x: Read-only file system',
    );
    expect(await failure(sh('true', withMounts({ ...block, source: 'slot2' })))).toMatch(
      /invalid_argument.*disk "slot2" has no file system/,
    );
  });

  test('a mount made in one container is seen in another where asked for', async () => {
    await mkdir(share('prop'), { recursive: true });
    const [from, to] = [nextId(), nextId()];
    const admin = [...defaultCapabilities, 'CAP_SYS_ADMIN'];
    const capabilities = { bounding: admin, effective: admin, permitted: admin };
    const shared = withMounts(bind('/share/prop', '/p', { recursive: true, propagation: Mount_Propagation.SHARED }));
    const slave = withMounts(bind('/share/prop', '/p', { recursive: true, propagation: Mount_Propagation.SLAVE }));
    const client = it.client();
    await client.createContainer(request(from, ['sleep', '60'], { ...shared, process: { capabilities } }));
    await client.createContainer(request(to, ['sleep', '60'], slave));
    for (const id of [from, to]) await client.startContainer({ id });
    const run = async (containerId: string, script: string): Promise<string> =>
      (await execIn(client, { containerId, inherit: true, process: { argv: ['sh', '-c', script] } })).stdout.trim();
    expect(await run(from, 'mkdir -p /p/m && mount -t tmpfs none /p/m && touch /p/m/seen; ls /p/m')).toBe('seen');
    expect(await run(to, 'ls /p/m')).toBe('seen');
    expect(await run(from, 'umount /p/m; ls /p/m')).toBe('');
    for (const id of [from, to]) await client.removeContainer({ id });
  });
});

describe('namespaces', () => {
  test('host name, own processes, own cgroup', async () => {
    expect(
      await stdout(
        'hostname; cat /etc/hostname; echo $$; cat /proc/self/cgroup; ls /sys/fs/cgroup | grep -c memory.max',
      ),
    ).toBe('pod\npod\n1\n0::/\n1');
  });

  test('processes are shared with the pod or with one container', async () => {
    const client = it.client();
    const [one, two, three] = [nextId(), nextId(), nextId()];
    const pod = { namespaces: { pid: Namespaces_Mode.POD } };
    await client.createContainer(request(one, ['sleep', '61'], pod));
    await client.createContainer(request(two, ['sleep', '62']));
    const joins = request(three, ['sleep', '63'], { namespaces: { pid: Namespaces_Mode.TARGET, pidTarget: two } });
    expect(await failure(client.createContainer(joins))).toBe(
      `[failed_precondition] container ${two} is created, not running`,
    );
    for (const id of [one, two]) await client.startContainer({ id });
    await client.createContainer(joins);
    await client.startContainer({ id: three });
    expect(await stdout('ps | grep -c "sleep 6[1]"; ls /proc/1/root/ /proc/1/fd/ 2>&1', pod)).toBe(
      '1\nls: /proc/1/root/: Permission denied\n/proc/1/fd/:',
    );
    const seen = await execIn(client, { containerId: three, inherit: true, process: { argv: ['ps', '-o', 'args'] } });
    expect(seen.stdout).toMatch(/sleep 62[^]*sleep 63/);
    for (const id of [one, two, three]) await client.removeContainer({ id });
    const gone = { namespaces: { pid: Namespaces_Mode.TARGET, pidTarget: two } };
    expect(await failure(sh('true', gone))).toMatch(/not_found/);
  });

  test('System V IPC is the pod’s or the container’s own', async () => {
    const ns = 'readlink /proc/self/ns/ipc';
    const pod = await stdout(ns);
    expect(await stdout(ns)).toBe(pod);
    expect(
      await stdout(ns, { namespaces: { pid: Namespaces_Mode.CONTAINER, ipc: Namespaces_Mode.CONTAINER } }),
    ).not.toBe(pod);
  });
});

describe('limits', () => {
  test('are in the files of the cgroup', async () => {
    const resources = {
      cpuShares: 2048n,
      cpuQuotaUs: 50_000n,
      cpuPeriodUs: 100_000n,
      memoryLimitBytes: 64n << 20n,
      pidsLimit: 50n,
      cpusetCpus: '0',
      unified: { 'memory.high': '60000000', 'hugetlb.9TB.max': '0' },
    };
    const files = 'cpu.weight cpu.max memory.max memory.high memory.oom.group pids.max cpuset.cpus';
    expect(await stdout(`cd /sys/fs/cgroup; cat ${files} | xargs`, { resources })).toBe(
      '79 50000 100000 67108864 59998208 0 50 0',
    );
    expect(await failure(sh('true', { resources: { cpusetCpus: '77' } }))).toMatch(/invalid_argument.*cpuset_cpus/);
    expect(await failure(sh('true', { resources: { unified: { '../x': '1' } } }))).toMatch(/invalid_argument.*unified/);
  });

  test('memory and processes', async () => {
    const resources = { memoryLimitBytes: 16n << 20n, memorySwapBytes: 16n << 20n };
    const killed = await sh('tail -c 100m /dev/zero | tail -n 1; echo survived', { resources });
    // Only what was too large is killed, unless the pod asks for the group: then all of it.
    expect(killed).toMatchObject({ stdout: 'survived\n', exit: { code: 0, oomKilled: true } });
    const unified = { 'memory.oom.group': '1' };
    const group = await sh('tail -c 100m /dev/zero | tail -n 1; echo survived', {
      resources: { ...resources, unified },
    });
    expect(group).toMatchObject({ stdout: '', exit: { code: 137, signal: 9, oomKilled: true } });
    expect(await stdout('for i in 1 2 3 4 5 6 7 8; do sleep 5 & done 2>&1', { resources: { pidsLimit: 5n } })).toMatch(
      /fork/,
    );
  });

  test('statistics tell what was used', async () => {
    const id = nextId();
    await it.client().createContainer(request(id, ['sleep', '60']));
    await it.client().startContainer({ id });
    await execIn(it.client(), {
      containerId: id,
      inherit: true,
      process: { argv: ['sh', '-c', 'head -c 100000 /dev/zero > /file'] },
    });
    const answer = await it.client().stats({ descriptors: true });
    const stats = answer.containers.find((figures) => figures.id === id);
    expect(stats?.cpu?.usageNs).toBeGreaterThan(0n);
    expect(stats?.memory?.usage).toBeGreaterThan(stats?.memory?.rss ?? 0n);
    expect(stats?.writableLayer?.bytes).toBeGreaterThanOrEqual(100_000n);
    expect(stats?.writableLayer?.timeNs).toBeLessThanOrEqual(answer.timeNs);
    expect(stats).toMatchObject({ processes: 1n, threads: 1n, oomKills: 0n });
    expect(stats?.descriptors?.open).toBeGreaterThan(0n);
    expect(stats?.cpuPressure?.some?.totalUs).toBeGreaterThanOrEqual(0n);
    await it.client().removeContainer({ id });
  });
});

describe('hostile requests', () => {
  test('no process, no root', async () => {
    expect(await failure(it.client().createContainer({ id: 'bad' }))).toBe('[invalid_argument] process is missing');
    expect(await failure(it.client().createContainer({ id: 'bad', process: { argv: ['a'] } }))).toBe(
      '[invalid_argument] rootfs is missing',
    );
  });

  const long = 'x'.repeat(5000);
  const requests: readonly (readonly [string, CreateRequest])[] = [
    ['an id that is a path', { id: '../etc' }],
    ['no id', { id: '' }],
    ['no program', { id: 'bad', process: { argv: [] } }],
    ['an empty program', { id: 'bad', process: { argv: [''] } }],
    ['a null byte', { id: 'bad', process: { argv: ['a\0b'] } }],
    ['an environment that is none', { id: 'bad', process: { argv: ['a'], env: ['=x'] } }],
    ['a working directory that is none', { id: 'bad', process: { argv: ['a'], cwd: 'x' } }],
    ['a long path', { id: 'bad', mounts: [{ kind: Mount_Kind.TMPFS, destination: `/${long}` }] }],
    [
      'too many mounts',
      { id: 'bad', mounts: Array.from({ length: 2000 }, () => ({ kind: Mount_Kind.TMPFS, destination: '/x' })) },
    ],
    ['an unknown capability', { id: 'bad', process: { argv: ['a'], capabilities: { bounding: ['CAP_X'] } } }],
    ['an unknown limit', { id: 'bad', process: { argv: ['a'], rlimits: [{ type: 'NOFILE' }] } }],
    ['a score out of range', { id: 'bad', process: { argv: ['a'], oomScoreAdj: 5000 } }],
    ['a device of no type', { id: 'bad', devices: [{ path: '/dev/x', type: 'z' }] }],
    [
      'a device number out of range',
      { id: 'bad', devices: [{ path: '/dev/x', type: 'c', major: -1n, minor: 1n << 40n }] },
    ],
    ['a masked path that is none', { id: 'bad', maskedPaths: ['x'] }],
    ['a limit the kernel does not take', { id: 'bad', resources: { unified: { 'memory.max': 'much' } } }],
  ];
  test.each(requests)('%s', async (_name, fields) => {
    const create = { ...request('bad', ['true']), ...fields };
    expect(await failure(it.client().createContainer(create))).toMatch(/^\[invalid_argument\] \S/);
    expect(await failure(it.client().createContainer({ ...create, mounts: [], devices: [] }))).not.toBe('');
    await it.client().removeContainer({ id: 'bad' });
    expect((await it.client().listContainers({})).containers).toEqual([]);
  });
});
