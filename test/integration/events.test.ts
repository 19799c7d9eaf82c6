import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type * as cri from '../../src/cri/gen/cri-types.ts';
import { TestNode } from '../harness/node.ts';

/** GetContainerEvents, as an evented kubelet and crictl read it. */
let node: TestNode;

beforeAll(async () => {
  node = await TestNode.start();
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

test('every change of a pod is told after the fact, with the pod as it is then, to all who listen', async () => {
  const leave = new AbortController();
  const seen: cri.ContainerEventResponse[] = [];
  const reading = (async (): Promise<void> => {
    for await (const event of node.daemon.cri.stream('GetContainerEvents', {}, { signal: leave.signal }))
      seen.push(event);
  })();
  const crictl = node.daemon.crictl.start('events', '-o', 'json');
  let printed = '';
  crictl.stdout.on('data', (chunk: Buffer) => {
    printed += chunk.toString();
  });
  // It has no other sign of being there: pods come and go until it tells of one.
  for (let round = 0; !printed.includes('STARTED'); round += 1) {
    const probe = await node.runPod({ name: `probe${String(round)}` });
    await node.removePod(probe);
    await delay(200);
  }
  const ofProbes = seen.length;

  const pod = await node.runPod({ name: 'watched' });
  const { status } = await node.runToEnd(pod, { command: ['sh', '-c', 'exit 3'] });
  await node.daemon.cri.call('RemoveContainer', { container_id: status.id });
  const qemu = await node.qemuPid(pod);
  const killed = await node.startContainer(pod, { name: 'killed' });
  process.kill(qemu, 'SIGKILL');
  await node.waitExited(killed);
  await node.removePod(pod);

  const wanted = [
    ['CREATED', pod.id],
    ['STARTED', pod.id],
    ['CREATED', status.id],
    ['STARTED', status.id],
    ['STOPPED', status.id],
    ['DELETED', status.id],
    ['CREATED', killed],
    ['STARTED', killed],
    ['STOPPED', killed],
    ['STOPPED', pod.id],
    ['DELETED', killed],
    ['DELETED', pod.id],
  ].map(([type = '', id = '']) => `CONTAINER_${type}_EVENT ${id}`);
  const told = (): cri.ContainerEventResponse[] => seen.slice(ofProbes).filter((event) => ofPod(event, 'watched'));
  for (const deadline = Date.now() + 10_000; told().length < wanted.length && Date.now() < deadline;) await delay(20);
  expect(told().map((event) => `${event.container_event_type} ${event.container_id}`)).toEqual(wanted);
  for (const event of told())
    expect(event.pod_sandbox_status).toMatchObject({ id: pod.id, metadata: { uid: 'uid-watched' } });
  const exit = told()[4]?.containers_statuses.find(({ id }) => id === status.id);
  expect(exit).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: 3, finished_at: status.finished_at });
  expect(told()[1]?.pod_sandbox_status?.network?.ip).toMatch(/^\d+\./);
  expect(told().at(-1)?.pod_sandbox_status?.state).toBe('SANDBOX_NOTREADY');

  for (const deadline = Date.now() + 10_000; !printed.includes(killed) && Date.now() < deadline;) await delay(20);
  expect(printed).toContain(killed);
  crictl.kill('SIGTERM');
  await crictl.catch(() => undefined);
  leave.abort();
  await expect(reading).rejects.toMatchObject({ code: 1 });
});

function ofPod({ pod_sandbox_status: status }: cri.ContainerEventResponse, name: string): boolean {
  return status?.metadata?.name === name;
}
