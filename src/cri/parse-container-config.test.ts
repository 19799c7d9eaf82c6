import { describe, expect, test } from '@jest/globals';
import { AppError } from '../platform/errors.ts';
import { containerConfig } from './fake-request.ts';
import { parseContainerConfig } from './parse-container-config.ts';

const base = { metadata: { name: 'app', attempt: 1 }, image: { image: 'sha256:abc' } };

const parse = (config: object | null) => parseContainerConfig(containerConfig(config));
const parseSecurity = (security_context: object) => parse({ ...base, linux: { security_context } }).security;

function refusal(config: object | null): string {
  try {
    parse(config);
  } catch (error) {
    if (error instanceof AppError) return `${error.kind}: ${error.message}`;
    throw error;
  }
  return 'accepted';
}

const security = (security_context: object): object => ({ ...base, linux: { security_context } });
const mount = (more: object): object => ({ ...base, mounts: [{ container_path: '/x', host_path: '/y', ...more }] });

describe('a container', () => {
  test('with nothing but name and image has defaults', () => {
    expect(parse(base)).toEqual({
      metadata: base.metadata,
      image: 'sha256:abc',
      userSpecifiedImage: '',
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
        namespaces: { network: 'pod', pid: 'pod', ipc: 'pod', targetId: '' },
        runAsUser: undefined,
        runAsGroup: undefined,
        runAsUsername: '',
        supplementalGroups: [],
        strictSupplementalGroups: false,
        readonlyRootfs: false,
        noNewPrivileges: false,
        maskedPaths: [],
        readonlyPaths: [],
        seccomp: { type: 'unconfined', localhostRef: '' },
      },
      stopSignal: undefined,
    });
  });

  test('user 0 is a user', () => {
    expect(parseSecurity({ run_as_user: { value: 0 }, run_as_group: { value: '4294967294' } })).toMatchObject({
      runAsUser: 0,
      runAsGroup: 4_294_967_294,
    });
    expect(parseSecurity({ run_as_username: 'nobody', run_as_group: {} })).toMatchObject({
      runAsUsername: 'nobody',
      runAsGroup: 0,
    });
    expect(parseSecurity({ supplemental_groups: [1, '2'], supplemental_groups_policy: 'Strict' })).toMatchObject({
      supplementalGroups: [1, 2],
      strictSupplementalGroups: true,
    });
  });

  test.each([
    [{ seccomp: {} }, { type: 'runtime-default', localhostRef: '' }],
    [{ seccomp: { profile_type: 'Unconfined' } }, { type: 'unconfined', localhostRef: '' }],
    [
      { seccomp: { profile_type: 'Localhost', localhost_ref: '/p.json' } },
      { type: 'localhost', localhostRef: '/p.json' },
    ],
    [{ seccomp_profile_path: 'runtime/default' }, { type: 'runtime-default', localhostRef: '' }],
    [{ seccomp_profile_path: 'localhost//p.json' }, { type: 'localhost', localhostRef: '/p.json' }],
    [{ seccomp_profile_path: 'unconfined' }, { type: 'unconfined', localhostRef: '' }],
    [
      { seccomp: {}, seccomp_profile_path: 'unconfined' },
      { type: 'runtime-default', localhostRef: '' },
    ],
  ])('seccomp %j', (context, selection) => {
    expect(parseSecurity(context).seccomp).toEqual(selection);
  });

  test.each([
    ['SIGNAL_RUNTIME_DEFAULT', undefined],
    ['SIGNAL_SIGTERM', 15],
    ['SIGNAL_SIGUSR1', 10],
    ['SIGNAL_SIGRTMIN', 34],
    ['SIGNAL_SIGRTMINPLUS3', 37],
    ['SIGNAL_SIGRTMAXMINUS1', 63],
    ['SIGNAL_SIGRTMAX', 64],
  ])('stop signal %s', (name, number) => {
    expect(parse({ ...base, stop_signal: name }).stopSignal).toBe(number);
  });

  test('an ephemeral container names its target', () => {
    expect(parseSecurity({ namespace_options: { pid: 'TARGET', target_id: 'abc' } }).namespaces).toMatchObject({
      pid: 'target',
      targetId: 'abc',
    });
  });

  test('environment, mounts and devices', () => {
    expect(
      parse({
        ...base,
        envs: [
          { key: 'A', value: Buffer.from('ü=1') },
          { key: 'EMPTY', value: Buffer.alloc(0) },
        ],
        mounts: [{ container_path: '/x', host_path: '/y', readonly: true, recursive_read_only: true }],
        devices: [{ container_path: '/dev/a', host_path: '/dev/b', permissions: 'rw' }],
        log_path: 'app/1.log',
      }),
    ).toMatchObject({
      env: [
        { key: 'A', value: 'ü=1' },
        { key: 'EMPTY', value: '' },
      ],
      mounts: [
        { containerPath: '/x', hostPath: '/y', readonly: true, recursiveReadonly: true, propagation: 'private' },
      ],
      devices: [{ containerPath: '/dev/a', hostPath: '/dev/b', permissions: 'rw' }],
      logPath: 'app/1.log',
    });
  });

  test.each([
    [null, 'invalid: config is not set'],
    [{ image: base.image }, 'invalid: config.metadata is not set'],
    [{ metadata: { name: '' }, image: base.image }, 'invalid: config.metadata.name'],
    [{ metadata: base.metadata }, 'invalid: config.image is not set'],
    [{ metadata: base.metadata, image: {} }, 'invalid: config.image.image is empty'],
    [{ ...base, command: ['a\0b'] }, 'invalid: config.command holds a zero byte'],
    [{ ...base, working_dir: 'tmp' }, 'invalid: config.working_dir "tmp" is not an absolute path'],
    [{ ...base, envs: [{ key: 'A=B' }] }, 'invalid: config.envs[0].key "A=B" holds "="'],
    [{ ...base, envs: [{ key: '' }] }, 'invalid: config.envs[0].key is empty'],
    [
      { ...base, envs: [{ key: 'A', value: Buffer.from([0xff]) }] },
      'invalid: config.envs[0].value of "A" is not UTF-8',
    ],
    [{ ...base, log_path: '../x' }, 'invalid: config.log_path "../x" does not stay'],
    [{ ...base, log_path: '/x' }, 'invalid: config.log_path "/x" does not stay'],
    [{ ...base, CDI_devices: [{ name: 'v/c' }] }, 'invalid: config.CDI_devices[0].name "v/c" is not of the form'],
    [
      { ...base, devices: [{ container_path: '/a', host_path: '/b', permissions: 'x' }] },
      'invalid: config.devices[0].permissions',
    ],
    [{ ...base, windows: {} }, 'unimplemented: config.windows'],
    [{ ...base, stop_signal: 200 }, 'invalid: config.stop_signal has the unknown value 200'],
    [mount({ host_path: '' }), 'invalid: config.mounts[0].host_path "" is not an absolute path'],
    [mount({ container_path: 'x' }), 'invalid: config.mounts[0].container_path'],
    [mount({ image: { image: 'x' } }), 'invalid: config.mounts[0].host_path "/y" and an image are both given'],
    [mount({ host_path: '', image: { image: 'x' } }), 'invalid: config.mounts[0].readonly is false, but image "x"'],
    [
      mount({ host_path: '', readonly: true, image: { image: 'x' }, image_sub_path: 'a/../../b' }),
      'invalid: config.mounts[0].image_sub_path "a/../../b" does not stay in the image',
    ],
    [mount({ image_sub_path: 'a' }), 'invalid: config.mounts[0].image_sub_path "a" is given without an image'],
    [mount({ uidMappings: [{}] }), 'invalid: config.mounts[0].uidMappings[0].length is 0'],
    [mount({ mount_options: ['noexec'] }), 'unimplemented: config.mounts[0].mount_options: noexec at /x'],
    [
      mount({ propagation: 'PROPAGATION_BIDIRECTIONAL' }),
      'unimplemented: config.mounts[0].propagation: mounts made at /x',
    ],
    [mount({ recursive_read_only: true }), 'invalid: config.mounts[0].recursive_read_only at /x needs readonly'],
    [
      security({ run_as_user: { value: 1 }, run_as_username: 'x' }),
      'invalid: config.linux.security_context.run_as_username and run_as_user exclude',
    ],
    [security({ run_as_group: { value: 1 } }), 'invalid: config.linux.security_context.run_as_group needs run_as_user'],
    [security({ run_as_user: { value: -1 } }), 'invalid: config.linux.security_context.run_as_user -1 is not a user'],
    [
      security({ run_as_user: { value: '4294967295' } }),
      'invalid: config.linux.security_context.run_as_user 4294967295',
    ],
    [
      security({ apparmor: { profile_type: 'Localhost', localhost_ref: 'p' } }),
      'unimplemented: config.linux.security_context.apparmor: no AppArmor',
    ],
    [security({ apparmor_profile: 'localhost/p' }), 'unimplemented: config.linux.security_context.apparmor'],
    [
      security({ seccomp: { profile_type: 'Localhost', localhost_ref: 'p.json' } }),
      'invalid: config.linux.security_context.seccomp.localhost_ref',
    ],
    [
      security({ seccomp_profile_path: 'other' }),
      'invalid: config.linux.security_context.seccomp_profile_path "other" is not a profile',
    ],
    [
      security({ namespace_options: { pid: 'TARGET' } }),
      'invalid: config.linux.security_context.namespace_options.target_id is empty',
    ],
    [
      security({ namespace_options: { network: 'NODE' } }),
      "unimplemented: config.linux.security_context.namespace_options.network: NODE asks for the host's",
    ],
  ])('%j is refused', (config, message) => {
    expect(refusal(config).slice(0, message.length)).toBe(message);
  });

  test('the value of an environment variable never gets into a message', () => {
    expect(refusal({ ...base, envs: [{ key: 'A', value: Buffer.from('s3cret\0') }] })).not.toContain('s3cret');
  });
});
