import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseLog, TestNode, type Pod } from '../harness/node.ts';

/** Pods outlive the daemon, whichever way it ends, and nothing they wrote is lost or repeated. */
let node: TestNode;

beforeAll(async () => {
  node = await TestNode.start();
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

const counter = ['sh', '-c', 'i=0; while true; do echo $i; i=$((i+1)); usleep 10000; done'];

async function numbersOf(logPath: string): Promise<number[]> {
  return parseLog(await readFile(logPath, 'utf8')).map(({ tag, content }) =>
    tag === 'F' ? Number(content) : Number.NaN,
  );
}

test('twenty times SIGKILL: every line once, in order, and exec goes on', async () => {
  const writers: { readonly pod: Pod; readonly id: string; readonly logPath: string }[] = [];
  for (let n = 0; n < 5; n += 1) {
    const pod = await node.runPod();
    const id = await node.startContainer(pod, { command: counter });
    writers.push({ pod, id, logPath: (await node.status(id)).log_path });
  }
  for (let round = 0; round < 20; round += 1) {
    await delay(Math.random() * 400);
    await node.daemon.kill();
    await node.daemon.start();
  }
  for (const { pod, id } of writers) {
    expect((await node.podStatus(pod)).state).toBe('SANDBOX_READY');
    expect(await node.sh(id, 'echo still here')).toBe('still here');
  }
  for (const { pod, id, logPath } of writers) {
    await node.daemon.cri.call('StopContainer', { container_id: id, timeout: '0' });
    const numbers = await numbersOf(logPath);
    expect(numbers.length).toBeGreaterThan(100);
    expect(numbers).toEqual(numbers.map((_, index) => index));
    await node.removePod(pod);
  }
}, 600_000);

describe('SIGTERM', () => {
  test('ends the daemon within 5 s and leaves pods alone; the next one sees what happened meanwhile', async () => {
    const pod = await node.runPod();
    const goesOn = await node.startContainer(pod, { command: counter });
    const ends = await node.startContainer(pod, { command: ['sh', '-c', 'sleep 2; echo bye; exit 6'] });
    const held = await node.createContainer(pod);
    const before = await node.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: pod.id, verbose: true });
    const { pid } = JSON.parse(before.info['info'] ?? '{}') as { pid: number };
    const started = performance.now();
    expect(await node.daemon.stop()).toBe('exit code 0');
    expect(performance.now() - started).toBeLessThan(5_000);
    expect(process.kill(pid, 0)).toBe(true);
    await delay(3_000);
    await node.daemon.start();
    expect(await node.waitExited(ends)).toMatchObject({ exit_code: 6 });
    expect((await node.logLines(ends)).map(({ content }) => content)).toEqual(['bye']);
    expect((await node.status(goesOn)).state).toBe('CONTAINER_RUNNING');
    await node.daemon.cri.call('StartContainer', { container_id: held });
    expect(await node.sh(held, 'echo held')).toBe('held');
    await node.removePod(pod);
  });
});

test('a VM that died while no daemon was there is NOTREADY, its containers EXITED', async () => {
  const pod = await node.runPod();
  const id = await node.startContainer(pod);
  const { info } = await node.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: pod.id, verbose: true });
  const { pid } = JSON.parse(info['info'] ?? '{}') as { pid: number };
  await node.daemon.kill();
  process.kill(pid, 'SIGKILL');
  await node.daemon.start();
  expect((await node.podStatus(pod)).state).toBe('SANDBOX_NOTREADY');
  expect(await node.status(id)).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: 255 });
  await node.removePod(pod);
});

test('a RunPodSandbox that the daemon did not survive leaves nothing behind', async () => {
  const running = node.runPod({ name: 'torn' });
  const failed = running.then(
    () => 'finished',
    () => 'failed',
  );
  await delay(60);
  await node.daemon.kill();
  await failed;
  await node.daemon.start();
  const { items } = await node.daemon.cri.call('ListPodSandbox', {});
  for (const { id } of items) await node.removePod({ id, config: {} });
  const pod = await node.runPod({ name: 'torn' });
  await node.removePod(pod);
});
