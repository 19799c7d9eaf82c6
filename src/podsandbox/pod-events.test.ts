import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { containerConfig, DomainFixture, never, until } from './fakes/domain-fixture.ts';
import { PodEventSource, type PodEvent } from './pod-events.ts';

describe('what the domain tells', () => {
  let node: DomainFixture;
  let seen: PodEvent[];
  let leave: AbortController;

  beforeEach(async () => {
    node = await DomainFixture.create();
    listen();
  });

  afterEach(async () => {
    leave.abort();
    await node[Symbol.asyncDispose]();
  });

  function listen(): void {
    seen = [];
    leave = new AbortController();
    const stream = node.domain.events.subscribe(leave.signal);
    void (async () => {
      for await (const event of stream) seen.push(event);
    })();
  }

  const told = (): string[] =>
    seen.map(({ type, id, sandbox }) => `${type} ${id === sandbox.id ? 'pod' : 'container'}`);

  test('the life of a pod, in order, each with the pod as it was then', async () => {
    const { id, vm } = await node.runPod();
    const container = await node.startContainer(id);
    vm.agent.exit(container, { code: 3 });
    await until('it exits', () => node.domain.containers.get(container).state === 'exited');
    await node.domain.containers.remove(container);
    await node.domain.sandboxes.stop(id);
    await node.domain.sandboxes.remove(id);
    await until('all is told', () => seen.length === 8);
    expect(told()).toEqual([
      'created pod',
      'started pod',
      'created container',
      'started container',
      'stopped container',
      'deleted container',
      'stopped pod',
      'deleted pod',
    ]);
    expect(seen.map(({ sandbox }) => sandbox.state)).toEqual([
      ...Array.from({ length: 6 }, () => 'ready'),
      'notready',
      'notready',
    ]);
    expect(seen.map(({ containers }) => containers.map(({ state }) => state).join())).toEqual([
      ...['', '', 'created', 'running', 'exited', '', '', ''],
    ]);
    expect(seen[4]?.containers[0]).toMatchObject({ exitCode: 3, reason: 'Error' });
    expect(seen.map(({ at }) => at)).toEqual(seen.map(({ at }) => at).sort((a, b) => Number(a - b)));
  });

  test('a VM that dies stops its containers, then the pod; removing the pod deletes both', async () => {
    const { id, vm } = await node.runPod();
    await node.startContainer(id);
    vm.die('boom');
    await until('the pod has stopped', () => told().at(-1) === 'stopped pod');
    await node.domain.sandboxes.remove(id);
    await until('all is told', () => told().at(-1) === 'deleted pod');
    expect(told().slice(-4)).toEqual(['stopped container', 'stopped pod', 'deleted container', 'deleted pod']);
  });

  test('what failed to be made is not told, a program that cannot be started is', async () => {
    node.vms.failNextClaim = true;
    await expect(node.runPod('bad')).rejects.toThrow();
    const { id, vm } = await node.runPod('good');
    vm.agent.failNext('createContainer');
    await expect(node.domain.containers.create(id, containerConfig(), never)).rejects.toThrow();
    await expect(node.startContainer(id, 'missing')).rejects.toThrow();
    await until('all is told', () => seen.length === 4);
    expect(told()).toEqual(['created pod', 'started pod', 'created container', 'stopped container']);
  });
});

describe('readers', () => {
  const event = (at: bigint): PodEvent => ({ type: 'created', at }) as PodEvent;

  test('each gets all from when it came; one that leaves is forgotten', async () => {
    const source = new PodEventSource();
    const leave = new AbortController();
    const [first, second] = [source.subscribe(leave.signal), source.subscribe(leave.signal)];
    const head = first.next();
    source.publish(event(1n));
    expect((await head).value).toEqual(event(1n));
    const late = second.next();
    source.publish(event(2n));
    expect((await late).value).toEqual(event(2n));
    expect((await first.next()).value).toEqual(event(2n));
    await second.return();
    expect(source.subscribers).toBe(1);
    const end = first.next();
    leave.abort();
    expect(await end).toEqual({ done: true, value: undefined });
    expect(source.subscribers).toBe(0);
  });

  test('one that is too slow gets an error instead of a list with a hole', async () => {
    const source = new PodEventSource(2);
    const reader = source.subscribe(never);
    const first = reader.next();
    source.publish(event(1n));
    await first;
    for (const at of [2n, 3n, 4n, 5n]) source.publish(event(at));
    await expect(reader.next()).rejects.toMatchObject({ kind: 'exhausted' });
    expect(source.subscribers).toBe(0);
  });
});
