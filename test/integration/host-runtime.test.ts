import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { buildBusyboxImage } from '../harness/busybox-image.ts';
import { TestContainerd } from '../harness/containerd.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { TestRegistry } from '../harness/registry.ts';

let folder: string;
let registry: TestRegistry;
let containerd: TestContainerd;

beforeAll(async () => {
  folder = await freeFolder('images');
  registry = await TestRegistry.start();
  containerd = await TestContainerd.start();
});

afterAll(async () => {
  await containerd[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await removeFolder(folder);
});

test('containerd itself runs a pod in the network of the host', async () => {
  const busybox = await buildBusyboxImage(folder);
  const image = await registry.push(busybox.folder, 'kelyfos/busybox:test');
  const config = {
    metadata: { name: 'alone', uid: 'u', namespace: 'test', attempt: 0 },
    linux: { security_context: { namespace_options: { network: 'NODE', pid: 'POD', ipc: 'POD' } } },
  } as const;
  const { cri } = containerd;
  const { image_ref: pulled } = await cri.call('PullImage', { image: { image }, sandbox_config: config });
  expect(pulled).toBe(busybox.configDigest);
  const { pod_sandbox_id: pod } = await cri.call('RunPodSandbox', { config });
  const { container_id: container } = await cri.call('CreateContainer', {
    pod_sandbox_id: pod,
    sandbox_config: config,
    config: { metadata: { name: 'c', attempt: 0 }, image: { image: pulled }, command: ['sleep', '100'], linux: {} },
  });
  await cri.call('StartContainer', { container_id: container });
  const { stdout } = await cri.call('ExecSync', { container_id: container, cmd: ['hostname'], timeout: '10' });
  expect(Buffer.from(stdout).toString().trim()).not.toBe('');
});
