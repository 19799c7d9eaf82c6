import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { TestDaemon } from '../harness/daemon.ts';
import { TestNetwork } from '../harness/cni.ts';
import { waitForPool } from '../harness/pool.ts';

/** A daemon as it is without a configuration, but for its folders, its socket and its network. */
interface Line {
  readonly msg?: string;
  readonly level?: unknown;
  readonly accelerator?: string;
}

async function linesOf(daemon: TestDaemon): Promise<Line[]> {
  return (await daemon.log())
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Line);
}

test('starts, finds out once whether there is KVM, and runs a pod', async () => {
  await using network = await TestNetwork.create();
  await using daemon = await TestDaemon.start({ network, bare: true });
  const about = async (): Promise<Line[]> =>
    (await linesOf(daemon)).filter(({ msg }) => /under (emulation|kvm)/.test(msg ?? ''));
  const ready = async (): Promise<Line[]> => (await linesOf(daemon)).filter(({ msg }) => msg === 'kelyfos is ready');

  const [first] = await ready();
  expect(['kvm', 'tcg']).toContain(first?.accelerator);
  const verdicts = await about();
  expect(verdicts).toHaveLength(1);
  if (first?.accelerator === 'tcg')
    expect(verdicts[0]?.msg).toMatch(/^virtual machines run under emulation \(tcg\), several times slower: \S/);
  const file = join(daemon.root, 'accelerator.json');
  expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ accelerator: first?.accelerator });

  const { mtimeNs } = await stat(file, { bigint: true });
  await daemon.stop();
  await daemon.start();
  expect(await about()).toHaveLength(1);
  expect((await stat(file, { bigint: true })).mtimeNs).toBe(mtimeNs);
  expect((await ready()).map(({ accelerator }) => accelerator)).toEqual([first?.accelerator, first?.accelerator]);

  expect(await waitForPool(daemon.cri)).toBe(true);
  const metadata = { name: 'plain', uid: 'uid-plain', namespace: 'test', attempt: 0 };
  const { pod_sandbox_id: id } = await daemon.cri.call('RunPodSandbox', { config: { metadata, linux: {} } });
  const { status, info } = await daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: id, verbose: true });
  expect(status).toMatchObject({ state: 'SANDBOX_READY' });
  expect(JSON.parse(info['info'] ?? '{}')).toMatchObject({ vm: { origin: 'pool' } });
}, 300_000);
