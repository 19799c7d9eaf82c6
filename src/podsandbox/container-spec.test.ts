import { describe, expect, test } from '@jest/globals';
import { Mount_Kind } from '../agent/gen/agent/v1/agent_pb.js';
import { containerSpec, type ContainerSpecInput } from './container-spec.ts';
import { newContainerId } from './ids.ts';
import type { ContainerConfig } from './model.ts';

const id = newContainerId();

const imageConfig: ContainerSpecInput['image']['config'] = {
  entrypoint: ['/entry'],
  cmd: ['serve'],
  env: ['PATH=/bin', 'MODE=image'],
  workingDir: '/srv',
  user: 'www:web',
  stopSignal: '',
  volumes: [],
  labels: {},
};

const image: ContainerSpecInput['image'] = { id: 'sha256:app', config: imageConfig };

const config: ContainerConfig = {
  metadata: { name: 'app', attempt: 0 },
  image: 'app',
  userSpecifiedImage: 'app',
  imageAnnotations: {},
  command: [],
  args: [],
  workingDir: '',
  env: [],
  mounts: [],
  devices: [],
  cdiDevices: [],
  labels: {},
  annotations: {},
  logPath: '',
  stdin: false,
  stdinOnce: false,
  tty: false,
  resources: undefined,
  security: {
    privileged: false,
    capabilities: { add: [], drop: [], addAmbient: [] },
    namespaces: { network: 'pod', pid: 'container', ipc: 'pod', targetId: '' },
    runAsUser: undefined,
    runAsGroup: undefined,
    runAsUsername: '',
    supplementalGroups: [],
    strictSupplementalGroups: false,
    readonlyRootfs: false,
    noNewPrivileges: false,
    maskedPaths: ['/proc/kcore'],
    readonlyPaths: ['/proc/sys'],
    seccomp: { type: 'runtime-default', localhostRef: '' },
  },
  stopSignal: undefined,
};

function spec(
  change: Partial<ContainerConfig> = {},
  input: Partial<ContainerSpecInput> = {},
): ReturnType<typeof containerSpec> {
  return containerSpec({
    id,
    config: { ...config, ...change },
    image,
    disks: [{ key: 'image sha256:app', serial: 'slot0' }],
    devices: [],
    volumes: [],
    hostname: 'web',
    seccompProfile: undefined,
    ...input,
  });
}

const secure = (change: Partial<ContainerConfig['security']>): Partial<ContainerConfig> => ({
  security: { ...config.security, ...change },
});

describe('the command line', () => {
  test.each([
    [[], [], ['/entry', 'serve']],
    [[], ['other'], ['/entry', 'other']],
    [['/mine'], [], ['/mine']],
    [['/mine'], ['a'], ['/mine', 'a']],
  ])('command %j, args %j', (command, args, expected) => {
    expect(spec({ command, args }).process?.argv).toEqual(expected);
  });

  test('nothing at all is refused', () => {
    expect(() => spec({}, { image: { ...image, config: { ...imageConfig, entrypoint: [], cmd: [] } } })).toThrow(
      /no command: neither the container nor image "app"/,
    );
  });
});

test('the environment: defaults, then the image, then the container, each name once', () => {
  const { process } = spec({
    env: [
      { key: 'MODE', value: 'pod' },
      { key: 'X', value: 'a=b' },
    ],
  });
  expect(process?.env).toEqual(['PATH=/bin', 'HOSTNAME=web', 'MODE=pod', 'X=a=b']);
});

describe('the user', () => {
  test('of the image', () => {
    expect(spec().process?.user).toMatchObject({ username: 'www:web' });
  });

  test('of the container wins, with its group and supplemental groups', () => {
    const { process } = spec(
      secure({ runAsUser: 1000, runAsGroup: 2000, supplementalGroups: [7], strictSupplementalGroups: true }),
    );
    expect(process?.user).toEqual({
      username: '1000',
      gid: 2000,
      gidSet: true,
      additionalGids: [7],
      strictGroups: true,
    });
  });

  test('is root when nobody says', () => {
    expect(spec({}, { image: { ...image, config: { ...imageConfig, user: '' } } }).process?.user).toMatchObject({
      username: '0',
    });
  });
});

describe('mounts', () => {
  const volume = (containerPath: string, index: number): ContainerSpecInput['volumes'][number] => ({
    mount: {
      containerPath,
      hostPath: '/h',
      readonly: true,
      selinuxRelabel: false,
      propagation: 'private',
      recursiveReadonly: false,
    },
    inShare: `${id}/${String(index)}`,
    readonly: true,
  });
  const destinations = (...paths: readonly string[]): (string | undefined)[] => {
    const volumes = paths.map(volume);
    const { mounts } = spec({ mounts: volumes.map(({ mount }) => mount) }, { volumes });
    return mounts?.map(({ destination }) => destination) ?? [];
  };

  test('a volume below another one comes after it', () => {
    expect(destinations('/data/sub/deep', '/data', '/data/sub').slice(-3)).toEqual([
      '/data',
      '/data/sub',
      '/data/sub/deep',
    ]);
  });

  test('a volume at the place of a default mount replaces it', () => {
    const paths = destinations('/etc/hosts', '/dev/shm/');
    expect(paths.filter((path) => path === '/etc/hosts' || path === '/dev/shm')).toHaveLength(2);
  });

  test('volumes of the image are made unless the pod mounts something there', () => {
    const declared = ['/data/', '/data', '/own', '/own/below', '/'];
    const [{ mount }] = [volume('/own/', 0)];
    const { mounts } = spec(
      { mounts: [mount] },
      { image: { ...image, config: { ...imageConfig, volumes: declared } } },
    );
    expect(mounts?.filter(({ kind }) => kind === Mount_Kind.VOLUME).map(({ destination }) => destination)).toEqual([
      '/data',
      '/own/below',
    ]);
  });

  test('an image volume is the disk of that image', () => {
    const mounted = { reference: 'x', userSpecified: '', annotations: {}, subPath: 'a', id: 'sha256:other' };
    const mount = { ...volume('/image', 0).mount, hostPath: '', image: mounted };
    const disks = [
      { key: 'image sha256:app', serial: 'slot0' },
      { key: 'image sha256:other', serial: 'slot1' },
    ];
    expect(spec({ mounts: [mount] }, { disks }).mounts?.at(-1)).toMatchObject({
      kind: Mount_Kind.IMAGE,
      source: 'slot1',
      destination: '/image',
      subPath: 'a',
    });
    expect(() => spec({ mounts: [mount] })).toThrow(/no disk has image sha256:other/);
  });

  test('sysfs and cgroup are read-only unless privileged', () => {
    const readonly = (change: Partial<ContainerConfig>): unknown[] =>
      spec(change)
        .mounts?.filter(({ destination }) => destination?.startsWith('/sys') === true)
        .map((mount) => mount.readonly) ?? [];
    expect(readonly({})).toEqual([true, true]);
    expect(readonly(secure({ privileged: true }))).toEqual([false, false]);
  });
});

test('a privileged container has all devices and nothing masked', () => {
  const { devices, maskedPaths, readonlyPaths } = spec(secure({ privileged: true }));
  expect([devices, maskedPaths, readonlyPaths]).toEqual([[{ all: true, access: 'rwm' }], [], []]);
});

test('a device is a disk or one of the guest’s', () => {
  const node = { containerPath: '/dev/x', access: 'r', uid: 0, gid: 6, mode: 0o660 };
  const { devices } = spec(
    {},
    {
      devices: [
        { kind: 'block', hostPath: '/dev/loop0', device: '7:0', writable: false, ...node },
        { kind: 'guest', guestPath: '/dev/fuse', ...node },
      ],
      disks: [
        { key: 'image sha256:app', serial: 'slot0' },
        { key: 'block 7:0 ro', serial: 'block-1' },
      ],
    },
  );
  expect(devices).toEqual([
    { path: '/dev/x', access: 'r', uid: 0, gid: 6, mode: 0o660, disk: 'block-1' },
    { path: '/dev/x', access: 'r', uid: 0, gid: 6, mode: 0o660, source: '/dev/fuse' },
  ]);
});

test('what a VM cannot give is refused by name', () => {
  expect(() => spec(secure({ namespaces: { ...config.security.namespaces, ipc: 'node' } }))).toThrow(
    /host's ipc namespace/,
  );
});
