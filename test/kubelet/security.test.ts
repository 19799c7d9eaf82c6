import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { script, statusOf, TestCluster } from './cluster.ts';

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start();
});

afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
});

const hostPath = (path: string): object => ({ hostPath: { path, type: 'DirectoryOrCreate' } });

async function hostFolder(name: string): Promise<string> {
  const path = join(cluster.kubelet.folder, name);
  await mkdir(path, { recursive: true });
  return path;
}

test('hostUsers false: users of the kubelet’s choice, and volumes that are the pod’s own', async () => {
  const data = await hostFolder('users');
  await cluster.apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'users' }, data: { key: 'value' } });
  await cluster.createPod('users', {
    hostUsers: false,
    restartPolicy: 'Never',
    securityContext: { fsGroup: 2000 },
    volumes: [
      { name: 'config', configMap: { name: 'users', defaultMode: 0o440 } },
      { name: 'scratch', emptyDir: {} },
      { name: 'memory', emptyDir: { medium: 'Memory' } },
      { name: 'data', ...hostPath(data) },
    ],
    containers: [
      script('main', 'until [ -e /tmp/end ]; do sleep 0.1; done; echo bye > /dev/termination-log', {
        readinessProbe: { exec: { command: ['test', '-e', '/config/key'] }, periodSeconds: 1 },
        volumeMounts: ['config', 'scratch', 'memory', 'data'].map((name) => ({ name, mountPath: `/${name}` })),
      }),
    ],
  });
  await cluster.waitReady('users');
  const [inside, outside, length] = (await cluster.sh('users', 'cat /proc/self/uid_map')).split(/\s+/).map(Number);
  expect([inside, length]).toEqual([0, 65_536]);
  expect(outside).toBeGreaterThanOrEqual(65_536);
  expect(
    await cluster.sh(
      'users',
      'cat /config/key; echo; touch /scratch/x /memory/x /data/x; chown 7:8 /data/x; stat -Lc "%n %u:%g" /config/key /scratch/x /memory/x /data/x',
    ),
  ).toBe('value\n/config/key 0:2000\n/scratch/x 0:2000\n/memory/x 0:2000\n/data/x 7:8');
  const { uid, gid } = await stat(join(data, 'x'));
  expect([uid, gid]).toEqual([7, 8]);
  await cluster.sh('users', 'touch /tmp/end');
  const ended = await cluster.waitForPhase('users', 'Succeeded');
  expect(statusOf(ended).state.terminated?.message).toBe('bye\n');
});

test('mounts: read-only through all layers, and what is mounted on the host later', async () => {
  const layered = await hostFolder('layered');
  await mkdir(join(layered, 'below'));
  await execa('mount', ['-t', 'tmpfs', 'tmpfs', join(layered, 'below')]);
  const shared = await hostFolder('shared');
  await mkdir(join(shared, 'later'));
  await execa('mount', ['--bind', shared, shared]);
  await execa('mount', ['--make-shared', shared]);
  await cluster.createPod('mounts', {
    volumes: [
      { name: 'layered', ...hostPath(layered) },
      { name: 'shared', ...hostPath(shared) },
    ],
    containers: [
      script('main', 'exec sleep 10000', {
        volumeMounts: [
          { name: 'layered', mountPath: '/top', readOnly: true },
          { name: 'layered', mountPath: '/all', readOnly: true, recursiveReadOnly: 'Enabled' },
          { name: 'shared', mountPath: '/shared', mountPropagation: 'HostToContainer' },
        ],
      }),
    ],
  });
  await cluster.waitReady('mounts');
  const tried = 'for f in /top/x /all/x /all/below/x; do touch $f 2>&1 | grep -c "Read-only"; done; touch /top/below/x';
  expect(await cluster.sh('mounts', tried)).toBe('1\n1\n1');
  await execa('mount', ['-t', 'tmpfs', 'tmpfs', join(shared, 'later')]);
  await writeFile(join(shared, 'later/flag'), '');
  expect(await cluster.sh('mounts', 'ls /shared/later')).toBe('flag');
  // While the pod runs.
  for (const folder of [join(shared, 'later'), shared, join(layered, 'below')]) await execa('umount', [folder]);
});

test('seccomp profiles, groups, sysctls and privileges', async () => {
  const seccomp = join(cluster.kubelet.folder, 'root/seccomp');
  await mkdir(seccomp, { recursive: true });
  await writeFile(
    join(seccomp, 'no-chmod.json'),
    JSON.stringify({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['chmod', 'fchmod', 'fchmodat'], action: 'SCMP_ACT_ERRNO' }],
    }),
  );
  await cluster.createPod('secure', {
    securityContext: {
      runAsUser: 1000,
      runAsGroup: 3000,
      supplementalGroups: [4000],
      supplementalGroupsPolicy: 'Strict',
      sysctls: [{ name: 'net.ipv4.ip_local_port_range', value: '2000 3000' }],
    },
    containers: [
      script('main', 'exec sleep 10000', {
        securityContext: {
          allowPrivilegeEscalation: false,
          capabilities: { drop: ['ALL'] },
          readOnlyRootFilesystem: true,
          seccompProfile: { type: 'Localhost', localhostProfile: 'no-chmod.json' },
        },
      }),
    ],
  });
  await cluster.waitReady('secure');
  expect(
    await cluster.sh(
      'secure',
      'id -u; id -G; grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status; cat /proc/sys/net/ipv4/ip_local_port_range; chmod 700 /proc/self 2>&1; touch /x 2>&1; true',
    ),
  ).toMatch(
    /^1000\n3000 4000\nCapEff:\t0{16}\nCapBnd:\t0{16}\nNoNewPrivs:\t1\nSeccomp:\t2\n2000\t3000\nchmod: .*not permitted\ntouch: .*Read-only file system/,
  );
});

test('the log of the kubelet names no feature that is missing', async () => {
  const text = await readFile(join(cluster.kubelet.folder, 'kubelet.log'), 'utf8');
  expect(text).not.toMatch(/does not support (user namespaces|recursive read-only)/i);
});
