import { expect, test } from '@jest/globals';
import { parseConfig } from './image-config.ts';

const bytes = (json: unknown): Uint8Array => Buffer.from(JSON.stringify(json));

test('all that is there is taken over, the whole document is kept', () => {
  const spec = {
    os: 'linux',
    architecture: 'amd64',
    rootfs: { type: 'layers', diff_ids: ['sha256:1'] },
    config: {
      ...{ Entrypoint: ['/e'], Cmd: ['c'], Env: ['A=b'], WorkingDir: '/w', User: '1:2', StopSignal: 'SIGINT' },
      ...{ Volumes: { '/v': {} }, Labels: { l: 'm' }, ExposedPorts: { '80/tcp': {} } },
    },
    history: [],
  };
  expect(parseConfig(bytes(spec), 'x')).toEqual({
    config: {
      ...{ entrypoint: ['/e'], cmd: ['c'], env: ['A=b'], workingDir: '/w', user: '1:2', stopSignal: 'SIGINT' },
      ...{ volumes: ['/v'], labels: { l: 'm' } },
    },
    platform: { os: 'linux', architecture: 'amd64' },
    diffIds: ['sha256:1'],
    spec,
  });
});

test.each([
  [{}],
  [{ config: null, rootfs: null }],
  [{ config: { Cmd: null, Env: null, Labels: null, Volumes: null } }],
])('what is missing is empty: %j', (spec) => {
  const { config, diffIds } = parseConfig(bytes(spec), 'x');
  expect(config).toEqual({
    ...{ entrypoint: [], cmd: [], env: [], workingDir: '', user: '', stopSignal: '', volumes: [], labels: {} },
  });
  expect(diffIds).toEqual([]);
});

test.each([[Buffer.from('no')], [bytes({ config: { Cmd: 'a string' } })], [bytes([])]])('%s is refused', (content) => {
  expect(() => parseConfig(content, 'app')).toThrow('configuration of app');
});
