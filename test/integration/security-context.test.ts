import { chmod, mkdir, readdir, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { mountsOf } from '../harness/jail-fixture.ts';
import { TestNode, type Pod } from '../harness/node.ts';

/** What the security context and the mounts of a container ask for, in a real guest. */
let node: TestNode;
let pod: Pod;

beforeAll(async () => {
  node = await TestNode.start();
  pod = await node.runPod({ name: 'secure' });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

const sh = (script: string): { readonly command: readonly string[] } => ({ command: ['sh', '-c', script] });
const security = (context: object): { readonly config: object } => ({
  config: { linux: { security_context: context } },
});
const mounts = (...list: readonly object[]): { readonly config: object } => ({ config: { mounts: list } });
const remove = (id: string): Promise<unknown> => node.daemon.cri.call('RemoveContainer', { container_id: id });
const invalid = (message: RegExp): object => ({
  code: status.INVALID_ARGUMENT,
  details: expect.stringMatching(message) as unknown,
});

describe('a volume with another file system below', () => {
  let host: string;

  beforeAll(async () => {
    host = join(node.daemon.scratch, 'layered');
    await mkdir(join(host, 'tmpfs'), { recursive: true });
    await execa('mount', ['-t', 'tmpfs', 'tmpfs', join(host, 'tmpfs')]);
  });

  const layered = (more: object): { readonly config: object } =>
    mounts({ host_path: host, container_path: '/mnt', readonly: true, ...more });

  test('read-only: what is below stays writable', async () => {
    const id = await node.startContainer(pod, layered({}));
    expect((await node.exec(id, 'touch', '/mnt/x')).stderr).toMatch(/Read-only file system/);
    await node.sh(id, 'touch /mnt/tmpfs/from-guest');
    expect(await readdir(join(host, 'tmpfs'))).toEqual(['from-guest']);
    await remove(id);
  });

  test('recursively read-only: nothing can be written', async () => {
    const id = await node.startContainer(pod, layered({ recursive_read_only: true }));
    for (const path of ['/mnt/x', '/mnt/tmpfs/x'])
      expect((await node.exec(id, 'touch', path)).stderr).toMatch(/Read-only file system/);
    expect((await node.status(id)).mounts).toMatchObject([{ readonly: true, recursive_read_only: true }]);
    await remove(id);
  });

  test.each([
    [{ readonly: false }],
    [{ propagation: 'PROPAGATION_HOST_TO_CONTAINER' }],
    [{ propagation: 'PROPAGATION_BIDIRECTIONAL' }],
  ])('recursively read-only is refused with %j', async (more) => {
    await expect(node.createContainer(pod, layered({ recursive_read_only: true, ...more }))).rejects.toMatchObject(
      invalid(/recursive_read_only|propagation/),
    );
  });

  test('is the host’s to take apart while a container has it', async () => {
    const id = await node.startContainer(pod, layered({}));
    expect((await mountsOf(process.pid)).filter(({ target }) => target.startsWith(node.daemon.state))).toEqual([]);
    await execa('umount', [join(host, 'tmpfs')]);
    await rmdir(join(host, 'tmpfs'));
    expect(await node.sh(id, 'ls -A /mnt')).toBe('');
    await remove(id);
    const left = await mountsOf(await node.qemuPid(pod));
    expect(left.filter(({ target }) => target.startsWith('/share/'))).toEqual([]);
  });
});

describe('what is mounted on the host later', () => {
  let host: string;
  const below = (): string => join(host, 'later');

  beforeAll(async () => {
    host = join(node.daemon.scratch, 'propagation');
    await mkdir(below(), { recursive: true });
    await execa('mount', ['--bind', host, host]);
    await execa('mount', ['--make-private', host]);
    await execa('mount', ['--make-shared', host]);
  });

  afterAll(async () => {
    await execa('umount', ['--recursive', host]);
  });

  test('appears in running containers that ask for it, and in no other', async () => {
    const containers = await Promise.all(
      ['PROPAGATION_HOST_TO_CONTAINER', 'PROPAGATION_PRIVATE'].map((propagation) =>
        node.startContainer(pod, mounts({ host_path: host, container_path: '/data', propagation })),
      ),
    );
    const seen = (): Promise<string[]> => Promise.all(containers.map((id) => node.sh(id, 'ls /data/later')));
    expect(await seen()).toEqual(['', '']);
    await execa('mount', ['-t', 'tmpfs', 'tmpfs', below()]);
    await writeFile(join(below(), 'flag'), '');
    expect(await seen()).toEqual(['flag', '']);
    await execa('umount', [below()]);
    expect(await seen()).toEqual(['', '']);
    await Promise.all(containers.map(remove));
  });

  test('is not stopped by a read-only mount, nor made read-only by it', async () => {
    const config = { host_path: host, container_path: '/data', readonly: true };
    const id = await node.startContainer(pod, mounts({ ...config, propagation: 'PROPAGATION_HOST_TO_CONTAINER' }));
    await execa('mount', ['-t', 'tmpfs', 'tmpfs', below()]);
    await node.sh(id, 'touch /data/later/x');
    expect((await node.exec(id, 'touch', '/data/x')).stderr).toMatch(/Read-only file system/);
    await remove(id);
    await execa('umount', [below()]);
  });
});

describe('sysctls', () => {
  const withSysctls = (name: string, sysctls: Readonly<Record<string, string>>): Promise<Pod> =>
    node.runPod({ name, config: { linux: { sysctls } } });

  test('of the pod are set before its containers run', async () => {
    const wanted = {
      'kernel.shm_rmid_forced': '1',
      'net.ipv4.ip_local_port_range': '2000\t3000',
      'net/ipv4/conf/eth0/forwarding': '1',
      'vm.max_map_count': '262144',
    };
    const own = await withSysctls('sysctls', wanted);
    const { output } = await node.runToEnd(
      own,
      sh(
        'cd /proc/sys; cat kernel/shm_rmid_forced net/ipv4/ip_local_port_range net/ipv4/conf/eth0/forwarding vm/max_map_count',
      ),
    );
    expect(output.split('\n')).toEqual(Object.values(wanted));
    await node.removePod(own);
  });

  test.each([
    ['one that there is not', { 'net.ipv4.no_such_thing': '1' }, /net\.ipv4\.no_such_thing/],
    ['a value that it cannot have', { 'net.ipv4.ip_forward': 'perhaps' }, /net\.ipv4\.ip_forward/],
    ['the host name', { 'kernel.hostname': 'x' }, /kernel\.hostname.*config\.hostname/],
  ])('%s is an error', async (_, sysctls, message) => {
    await expect(withSysctls('wrong', sysctls)).rejects.toMatchObject(invalid(message));
  });
});

describe('seccomp', () => {
  test('by kind: the default, none, none when nothing is said', async () => {
    const mode = async (context: object): Promise<string> =>
      (await node.runToEnd(pod, { ...sh('grep ^Seccomp: /proc/self/status'), ...security(context) })).output;
    expect(await mode({ seccomp: { profile_type: 'RuntimeDefault' } })).toBe('Seccomp:\t2');
    expect(await mode({ seccomp: {} })).toBe('Seccomp:\t2');
    expect(await mode({ seccomp: { profile_type: 'Unconfined' } })).toBe('Seccomp:\t0');
    expect(await mode({})).toBe('Seccomp:\t0');
  });

  test('a profile of the host is read when the container is made', async () => {
    const file = join(node.daemon.scratch, 'profile.json');
    const profile = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['sethostname'], action: 'SCMP_ACT_ERRNO', errnoRet: 13 }],
    };
    await writeFile(file, JSON.stringify(profile));
    await chmod(file, 0o600);
    const context = (localhost_ref: string): { readonly config: object } =>
      security({
        capabilities: { add_capabilities: ['SYS_ADMIN'] },
        seccomp: { profile_type: 'Localhost', localhost_ref },
      });
    const id = await node.createContainer(pod, { ...sh('hostname other'), ...context(file) });
    await rm(file);
    await node.daemon.cri.call('StartContainer', { container_id: id });
    await node.waitExited(id);
    expect(await node.logLines(id)).toMatchObject([{ content: expect.stringMatching(/Permission denied/) as unknown }]);

    await expect(node.createContainer(pod, context(file))).rejects.toMatchObject(invalid(/profile\.json/));
    await writeFile(file, '{"defaultAction":"SCMP_ACT_WHATEVER"}');
    await expect(node.createContainer(pod, context(file))).rejects.toMatchObject(invalid(/SCMP_ACT_WHATEVER/));
  });
});

describe('groups', () => {
  const user = { run_as_user: { value: '1000' }, run_as_group: { value: '2000' }, supplemental_groups: ['7'] };

  test.each([
    ['Merge', ['2000', '7', '50000']],
    ['Strict', ['2000', '7']],
  ])('%s, and the status says which', async (supplemental_groups_policy, groups) => {
    const context = security({ ...user, supplemental_groups_policy });
    const { output, status: end } = await node.runToEnd(pod, { ...sh('id -G'), ...context });
    expect(output.split(' ')).toEqual(groups);
    expect(end.user).toEqual({ linux: { uid: '1000', gid: '2000', supplemental_groups: groups } });
  });

  test('a group without a user is an error', async () => {
    await expect(node.createContainer(pod, security({ run_as_group: { value: '1' } }))).rejects.toMatchObject(
      invalid(/run_as_group/),
    );
  });
});

describe('privileges', () => {
  test('a privileged container needs a pod that may have one', async () => {
    await expect(node.createContainer(pod, security({ privileged: true }))).rejects.toMatchObject(
      invalid(/privileged/),
    );
    const other = await node.runPod({ config: { linux: { security_context: { privileged: true } } } });
    const { output } = await node.runToEnd(other, {
      ...sh(
        'grep -c " /proc/.* ro," /proc/self/mountinfo; grep ^Seccomp: /proc/self/status; mount -t tmpfs x /tmp && echo mounted',
      ),
      ...security({
        privileged: true,
        masked_paths: ['/proc/keys'],
        readonly_paths: ['/proc/sys'],
        seccomp: { profile_type: 'RuntimeDefault' },
      }),
    });
    expect(output.split('\n')).toEqual(['0', 'Seccomp:\t0', 'mounted']);
    await node.removePod(other);
  });

  test('AppArmor: no profile but the default, as the guest has none', async () => {
    const { exitCode } = await node.runToEnd(pod, {
      ...sh('true'),
      ...security({ apparmor: { profile_type: 'RuntimeDefault' }, apparmor_profile: 'localhost/old' }),
    });
    expect(exitCode).toBe(0);
    for (const context of [
      { apparmor: { profile_type: 'Localhost', localhost_ref: 'mine' } },
      { apparmor_profile: 'localhost/mine' },
    ])
      await expect(node.createContainer(pod, security(context))).rejects.toMatchObject({
        code: status.UNIMPLEMENTED,
        details: expect.stringMatching(/AppArmor.*"mine"/) as unknown,
      });
  });

  test('SELinux: labels have no effect, and have to be some', async () => {
    const options = { user: 'u', role: 'r', type: 't', level: 's0:c1,c2' };
    const { exitCode } = await node.runToEnd(pod, { ...sh('true'), ...security({ selinux_options: options }) });
    expect(exitCode).toBe(0);
    await expect(
      node.createContainer(pod, security({ selinux_options: { ...options, level: 'secret' } })),
    ).rejects.toMatchObject(invalid(/"secret"/));
  });
});
