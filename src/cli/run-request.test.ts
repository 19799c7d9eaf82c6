import { describe, expect, test } from '@jest/globals';
import { parseRunRequest, type RunOptions } from './run-request.ts';

const none: RunOptions = { env: [], volume: [], publish: [], label: [], dns: [], stopTimeout: '10s', pull: 'missing' };
const metadata = { name: 'run-1', namespace: 'default', uid: 'u', attempt: 0 };

const request = (options: Partial<RunOptions> = {}, command: readonly string[] = []) =>
  parseRunRequest('busybox', command, { ...none, ...options }, { HOME: '/root' });
const sandbox = (options: Partial<RunOptions>) => request(options).sandboxConfig(metadata, '/tmp/logs');
const container = (options: Partial<RunOptions>, command: readonly string[] = []) =>
  request(options, command).containerConfig('sha256:1');

describe('options of run', () => {
  test('become what the runtime is asked for', () => {
    expect(
      container(
        { env: ['A=1=2', 'HOME', 'UNSET', 'E='], workdir: '/w', entrypoint: '/e', readOnly: true, stopSignal: 'int' },
        ['a', '-b'],
      ),
    ).toMatchObject({
      image: { image: 'sha256:1', user_specified_image: 'busybox' },
      command: ['/e'],
      args: ['a', '-b'],
      working_dir: '/w',
      envs: [
        { key: 'A', value: Buffer.from('1=2') },
        { key: 'HOME', value: Buffer.from('/root') },
        { key: 'E', value: Buffer.from('') },
      ],
      stop_signal: 'SIGNAL_SIGINT',
      linux: { security_context: { readonly_rootfs: true, seccomp: { profile_type: 'RuntimeDefault' } } },
    });
    expect(container({ volume: ['/a:/b:ro', '/c:/d'] })).toMatchObject({
      mounts: [
        { host_path: '/a', container_path: '/b', readonly: true },
        { host_path: '/c', container_path: '/d', readonly: false },
      ],
    });
    expect(container({ privileged: true })).toMatchObject({
      linux: { security_context: { privileged: true, masked_paths: [] } },
    });
    expect(container({ memory: '64MiB', cpus: '1.5' })).toMatchObject({
      linux: { resources: { memory_limit_in_bytes: '67108864', cpu_quota: 150_000, cpu_period: 100_000 } },
    });
    expect(
      sandbox({ publish: ['8080:80', '[::1]:53:53/udp'], dns: ['1.1.1.1'], label: ['a=b', 'c'], name: 'pod' }),
    ).toMatchObject({
      metadata: { name: 'pod', uid: 'u' },
      log_directory: '/tmp/logs',
      port_mappings: [
        { host_ip: '', host_port: 8080, container_port: 80, protocol: 'TCP' },
        { host_ip: '::1', host_port: 53, container_port: 53, protocol: 'UDP' },
      ],
      dns_config: { servers: ['1.1.1.1'] },
      labels: { a: 'b', c: '' },
    });
    expect(request({ timeout: '1.5s', stopTimeout: '500ms' })).toMatchObject({ timeoutMs: 1500, stopSeconds: 1 });
  });

  test.each([
    ['0', { run_as_user: { value: '0' } }],
    ['1:2', { run_as_user: { value: '1' }, run_as_group: { value: '2' } }],
    ['nobody', { run_as_username: 'nobody' }],
  ])('--user %s', (user, context) => {
    expect(container({ user })).toMatchObject({ linux: { security_context: context } });
  });

  test.each([
    [{ env: ['=x'] }, '--env: found "=x", accepted: KEY=VALUE, or KEY'],
    [{ volume: ['/a'] }, '--volume: found "/a"'],
    [{ volume: ['/a:b'] }, '--volume: found "/a:b"'],
    [{ volume: ['/a:/b:z'] }, '--volume: found "/a:/b:z"'],
    [{ publish: ['80'] }, '--publish: found "80"'],
    [{ user: 'a:b' }, '--user: found "a:b"'],
    [{ memory: '64M' }, '--memory: found "64M"'],
    [{ cpus: 'many' }, '--cpus: found "many"'],
    [{ timeout: '5' }, '--timeout: found "5"'],
    [{ stopTimeout: 'x' }, '--stop-timeout: found "x"'],
    [{ pull: 'maybe' }, '--pull: found "maybe"'],
    [{ stopSignal: '$' }, '--stop-signal: found "$"'],
  ])('%j is refused', (options, message) => {
    expect(() => request(options)).toThrow(message);
  });
});
