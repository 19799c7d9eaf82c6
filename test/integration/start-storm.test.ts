import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { status } from '@grpc/grpc-js';
import { mostAtOnce, overtaken, type StartedPod } from '../bench/start-order.ts';
import { podInfo } from '../bench/verbose.ts';
import { TestNode } from '../harness/node.ts';

/** More pods at once than the host starts at a time. */
let node: TestNode;
const limit = 2;

beforeAll(async () => {
  node = await TestNode.start({
    config: { vm: { concurrent_starts: limit, classes: { default: { memory: '512MiB', pool: 0 } } } },
  });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

async function turnOf(id: string, number: number): Promise<StartedPod> {
  const [request] = (await podInfo(node.daemon.cri, id)).startup;
  const waited = request?.steps.find(({ name }) => name === 'wait for turn')?.ms ?? Number.NaN;
  const began = Number(request?.startedAt) / 1e6;
  return { number, admittedMs: began + waited, endedMs: began + (request?.ms ?? Number.NaN) };
}

test('pods at once start a few at a time and in order, and all of them do', async () => {
  const pods = await Promise.all(Array.from({ length: 8 }, () => node.runPod()));
  const turns = await Promise.all(pods.map(({ id }, number) => turnOf(id, number)));
  expect(overtaken(turns)).toEqual([]);
  expect(mostAtOnce(turns)).toBeLessThanOrEqual(limit);
  await Promise.all(pods.map((pod) => node.removePod(pod)));
});

test('a caller whose deadline passes while it waits gets nothing, and keeps nobody', async () => {
  const first = Promise.all(Array.from({ length: limit + 2 }, () => node.runPod()));
  const config = {
    metadata: { name: 'late', uid: 'late', namespace: 'test', attempt: 0 },
    hostname: 'late',
    log_directory: node.daemon.scratch,
    linux: {},
  };
  await expect(node.daemon.cri.call('RunPodSandbox', { config }, { timeoutMs: 50 })).rejects.toMatchObject({
    code: status.DEADLINE_EXCEEDED,
  });
  const pods = await first;
  const { items } = await node.daemon.cri.call('ListPodSandbox', {});
  expect(items.map(({ id }) => id).toSorted()).toEqual(pods.map(({ id }) => id).toSorted());
  // Its name is free.
  const { pod_sandbox_id: id } = await node.daemon.cri.call('RunPodSandbox', { config });
  for (const pod of [...pods, { id, config }]) await node.removePod(pod);
  const { info } = await node.daemon.cri.call('Status', { verbose: true });
  expect(JSON.parse(info['starts'] ?? '')).toEqual({ limit, running: 0, waiting: 0 });
});
