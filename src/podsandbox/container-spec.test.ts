import { describe, expect, test } from '@jest/globals';
import { containerSpec, type ContainerSpecInput } from './container-spec.ts';
import { newContainerId } from './ids.ts';
import type { ContainerConfig } from './model.ts';

const id = newContainerId();

const image: ContainerSpecInput['image'] = {
  entrypoint: ['/entry'],
  cmd: ['serve'],
  env: ['PATH=/bin', 'MODE=image'],
  workingDir: '/srv',
  user: 'www:web',
  stopSignal: '',
  volumes: [],
  labels: {},
};

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
    disk: 'slot0',
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
    expect(() => spec({}, { image: { ...image, entrypoint: [], cmd: [] } })).toThrow(
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
    expect(spec({}, { image: { ...image, user: '' } }).process?.user).toMatchObject({ username: '0' });
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
    target: `/share/${id}/${String(index)}`,
    inShare: `${id}/${String(index)}`,
  });
  const destinations = (...paths: readonly string[]): (string | undefined)[] =>
    spec({}, { volumes: paths.map(volume) }).mounts?.map(({ destination }) => destination) ?? [];

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

test('what a VM cannot give is refused by name', () => {
  expect(() => spec({ devices: [{ containerPath: '/dev/x', hostPath: '/dev/x', permissions: 'rw' }] })).toThrow(
    /device "\/dev\/x"/,
  );
  expect(() => spec(secure({ namespaces: { ...config.security.namespaces, ipc: 'node' } }))).toThrow(
    /host's ipc namespace/,
  );
});
