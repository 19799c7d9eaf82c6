import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { DomainFixture, never, until } from './fakes/domain-fixture.ts';

let node: DomainFixture;

beforeEach(async () => {
  node = await DomainFixture.create();
});

afterEach(async () => {
  await node[Symbol.asyncDispose]();
});

const names = (steps: readonly { readonly name: string }[] = []): readonly string[] => steps.map(({ name }) => name);

test('the traces of a pod and its container say what was done, outlive the daemon, and go with them', async () => {
  const { id } = await node.runPod();
  const container = await node.startContainer(id);
  const ofPod = node.domain.sandboxes.traces(id);
  expect(ofPod.map(({ request }) => request)).toEqual(['RunPodSandbox']);
  expect(names(ofPod[0]?.steps)).toEqual(
    expect.arrayContaining(['record intent', 'claim', 'network', 'cgroup', 'configure guest', 'record ready']),
  );
  const ofContainer = node.domain.containers.traces(container);
  expect(ofContainer.map(({ request }) => request)).toEqual(['CreateContainer', 'StartContainer']);
  expect(names(ofContainer[0]?.steps)).toEqual(expect.arrayContaining(['attach disks', 'create in guest']));
  expect(names(ofContainer[1]?.steps)).toEqual(expect.arrayContaining(['start in guest', 'open log']));

  await node.restart();
  expect(node.domain.sandboxes.traces(id)).toEqual(ofPod);
  expect(node.domain.containers.traces(container).map(({ request }) => request)).toEqual([
    'CreateContainer',
    'StartContainer',
  ]);

  await node.domain.sandboxes.remove(id);
  expect(node.domain.sandboxes.traces(id)).toEqual([]);
  await until('no traces are left', () => node.records.traces.entries().length === 0);
});

test('the first line of the log is part of the start of its container, whenever it comes', async () => {
  const { id, vm } = await node.runPod();
  const container = await node.startContainer(id);
  const start = (): readonly string[] => names(node.domain.containers.traces(container)[1]?.steps);
  expect(start()).not.toContain('first log line');
  vm.agent.write(container, 'stdout', 'hello\n');
  await until('the first line is in the log', () => start().includes('first log line'));
  vm.agent.write(container, 'stdout', 'again\n');
  expect(start().filter((name) => name === 'first log line')).toHaveLength(1);
  expect(node.traced.late).toEqual(['StartContainer: first log line']);
});

test('a request that fails leaves no trace here, and is told to whom traces are exported', async () => {
  node.networks.failNextAttach = true;
  await expect(node.domain.sandboxes.run(node.sandboxConfig(), '', never)).rejects.toThrow('attach fails');
  expect(node.records.traces.entries()).toEqual([]);
  expect(node.traced.ended).toEqual([
    {
      request: 'RunPodSandbox',
      error: expect.stringContaining('run pod sandbox default/web'),
      attributes: expect.objectContaining({ 'k8s.pod.name': 'web', 'kelyfos.vm.origin': 'pool' }),
    },
  ]);
});

test('traces of what no longer exists are dropped when the daemon starts', async () => {
  const [trace] = node.domain.sandboxes.traces((await node.runPod()).id);
  await node.records.traces.put('0'.repeat(64), trace === undefined ? [] : [trace]);
  await node.restart();
  await until('they are gone', () => node.records.traces.entries().length === 1);
});
