import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { TestNetwork } from '../harness/cni.ts';
import { TestDaemon } from '../harness/daemon.ts';

/** A node whose network plugin is installed after the runtime, replaced, and broken. */
const fileName = '10-test.conflist';
const noPool = { vm: { classes: { default: { pool: 0 } } } };

interface Condition {
  readonly status: boolean;
  readonly reason: string;
  readonly message: string;
}

async function networkReady(daemon: TestDaemon): Promise<Condition> {
  const { status } = await daemon.cri.call('Status', {});
  const condition = status?.conditions.find(({ type }) => type === 'NetworkReady');
  if (condition === undefined) throw new Error('no condition NetworkReady');
  return condition;
}

/** The daemon hears of files by itself, a moment later. */
async function becomes(daemon: TestDaemon, ready: boolean): Promise<Condition> {
  for (const deadline = Date.now() + 15_000; ;) {
    const condition = await networkReady(daemon);
    if (condition.status === ready) return condition;
    if (Date.now() > deadline) throw new Error(`NetworkReady stays ${String(condition.status)}: ${condition.message}`);
    await delay(50);
  }
}

test('follows the configuration of CNI: none, a good one, a broken one, a good one', async () => {
  await using network = await TestNetwork.create();
  await network.remove(fileName);
  await using daemon = await TestDaemon.start({ network, config: noPool });
  const run = (name: string): Promise<{ readonly pod_sandbox_id: string }> =>
    daemon.cri.call('RunPodSandbox', {
      config: { metadata: { name, uid: name, namespace: 'test', attempt: 0 }, hostname: name, linux: {} },
    });

  const none = await networkReady(daemon);
  expect(none).toMatchObject({ status: false, reason: 'NetworkPluginNotReady' });
  expect(none.message).toContain(network.confDir);
  await expect(run('early')).rejects.toMatchObject({
    code: 14,
    details: expect.stringContaining(network.confDir) as unknown,
  });
  expect((await daemon.cri.call('ListPodSandbox', {})).items).toEqual([]);

  await network.write(fileName, network.conflist());
  expect(await becomes(daemon, true)).toMatchObject({ reason: '', message: '' });
  const { pod_sandbox_id: early } = await run('early');
  expect((await daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: early })).status).toMatchObject({
    state: 'SANDBOX_READY',
    network: { ip: expect.stringContaining(network.prefix) as unknown },
  });

  await network.write(fileName, '{"cniVersion": "1.0.0", "name": "torn", "plugins": [');
  const broken = await becomes(daemon, false);
  expect([broken.reason, broken.message]).toEqual(['NetworkPluginNotReady', expect.stringContaining(fileName)]);
  await expect(run('late')).rejects.toThrow(fileName);
  // What is attached already goes by what it was attached with.
  await daemon.cri.call('StopPodSandbox', { pod_sandbox_id: early });
  await daemon.cri.call('RemovePodSandbox', { pod_sandbox_id: early });

  await network.write(fileName, network.conflist());
  await becomes(daemon, true);
  await run('late');
}, 180_000);
