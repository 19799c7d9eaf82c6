import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { containerConfig } from '../fakes/domain-fixture.ts';
import type { ContainerConfig } from '../model.ts';
import { injectCdiDevices } from './inject.ts';

let folder: string;
let low: string;
let high: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-cdi-'));
  [low, high] = [join(folder, 'low'), join(folder, 'high')];
  for (const path of [low, high]) await mkdir(path);
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

async function put(path: string, devices: Readonly<Record<string, object>>, shared?: object): Promise<void> {
  const list = Object.entries(devices).map(([name, containerEdits]) => ({ name, containerEdits }));
  const spec = { cdiVersion: '0.6.0', kind: 'vendor.com/class', devices: list };
  await writeFile(path, JSON.stringify(shared === undefined ? spec : { ...spec, containerEdits: shared }));
}

function inject(...names: readonly string[]): Promise<ContainerConfig> {
  const cdiDevices = names.map((name) => `vendor.com/class=${name}`);
  return injectCdiDevices({ ...containerConfig(), cdiDevices }, [low, high, join(folder, 'absent')]);
}

const env = (value: string): object => ({ env: [`WHO=${value}`] });

test('edits of a file come once, those of each device after them', async () => {
  await put(join(low, 'a.json'), { one: env('one'), two: env('two'), three: env('three') }, env('all'));
  const { env: result } = await inject('one', 'three');
  expect(result.map(({ value }) => value)).toEqual(['all', 'one', 'three']);
});

test('nodes, mounts and groups become those of the container', async () => {
  await writeFile(
    join(low, 'a.yaml'),
    `
cdiVersion: "1.0.0"
kind: vendor.com/class
devices:
  - name: "0"
    containerEdits:
      deviceNodes:
        - { path: /dev/x, hostPath: /dev/fuse, permissions: rw, fileMode: 384, uid: 7 }
        - { path: /dev/null }
      mounts:
        - { hostPath: /opt/lib, containerPath: /lib/x, options: [ro, nosuid, nodev, rbind, rslave] }
      additionalGids: [0, 44]
`,
  );
  const { devices, mounts, security } = await inject('0');
  expect(devices).toEqual([
    { containerPath: '/dev/x', hostPath: '/dev/fuse', permissions: 'rw', node: { mode: 0o600, uid: 7 } },
    { containerPath: '/dev/null', hostPath: '/dev/null', permissions: '', node: {} },
  ]);
  expect(mounts).toMatchObject([
    { containerPath: '/lib/x', hostPath: '/opt/lib', readonly: true, propagation: 'host-to-container' },
  ]);
  expect(security.supplementalGroups).toEqual([44]);
});

test('a later folder wins; a name twice in one folder stands for nothing', async () => {
  await put(join(low, 'a.json'), { one: env('low'), two: env('low') });
  await put(join(high, 'a.json'), { one: env('high') });
  expect((await inject('one', 'two')).env.map(({ value }) => value)).toEqual(['high', 'low']);
  await put(join(high, 'b.json'), { one: env('other') });
  await expect(inject('one')).rejects.toThrow(
    /unresolvable CDI devices "vendor.com\/class=one".*high\/a.json and in .*high\/b.json/,
  );
  await expect(inject('two')).resolves.toBeDefined();
});

describe('an error names device and file:', () => {
  test('a device that no file has, with what is wrong with the files', async () => {
    await writeFile(join(low, 'a.json'), '{ "cdiVersion": "9.0.0" }');
    await writeFile(join(low, 'b.yaml'), 'a: [');
    await writeFile(join(low, 'c.txt'), 'not looked at');
    await expect(inject('one')).rejects.toMatchObject({
      kind: 'not-found',
      message: expect.stringMatching(/"vendor.com\/class=one".*a\.json: .*cdiVersion.*b\.yaml: /s) as unknown,
    });
  });

  test.each([
    [{ hooks: [{ hookName: 'createContainer', path: '/bin/x' }] }, /its createContainer hook \/bin\/x .*host runtime/],
    [
      { mounts: [{ hostPath: 'tmpfs', containerPath: '/x', type: 'tmpfs' }] },
      /its mount at \/x is of the type "tmpfs"/,
    ],
    [{ mounts: [{ hostPath: '/x', containerPath: '/x', options: ['noexec'] }] }, /the option "noexec"/],
    [{ netDevices: [{ hostInterfaceName: 'eth1', name: 'eth1' }] }, /network devices/],
    [{ intelRdt: { closID: 'x' } }, /intelRdt/],
  ])('what a guest cannot have: %j', async (edits, message) => {
    await put(join(low, 'a.json'), { one: edits });
    await expect(inject('one')).rejects.toMatchObject({
      kind: 'failed-precondition',
      message: expect.stringMatching(message) as unknown,
    });
    await expect(inject('one')).rejects.toThrow(/CDI device "vendor.com\/class=one" of .*low\/a\.json: /);
  });
});
