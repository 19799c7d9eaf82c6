import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ContainerInfo_State } from '../agent/gen/agent/v1/agent_pb.js';
import { AppError } from '../platform/errors.ts';
import { containerConfig, DomainFixture, never, until } from './fakes/domain-fixture.ts';
import type { ContainerRecord, SandboxRecord } from './records.ts';

/** What must hold when a step fails at a bad moment. */
let node: DomainFixture;

beforeEach(async () => {
  node = await DomainFixture.create();
});

afterEach(async () => {
  await node[Symbol.asyncDispose]();
});

describe('recovery', () => {
  /** As if the daemon had died before the call that made this returned. */
  async function halfMade(id: string): Promise<void> {
    const { sandboxes, containers } = node.records;
    const [sandbox, container] = [sandboxes.get(id), containers.get(id)];
    if (sandbox !== undefined) await sandboxes.put(id, { ...sandbox, phase: 'creating' } satisfies SandboxRecord);
    if (container !== undefined)
      await containers.put(id, { ...container, phase: 'creating' } satisfies ContainerRecord);
  }

  test('one container that cannot be recovered does not keep the others, or the VM, from being watched', async () => {
    const { id, vm } = await node.runPod();
    const container = await node.startContainer(id);
    await vm.agent.createContainer({ id: 'f'.repeat(64), process: { argv: ['run'] } });
    await node.stop();
    vm.agent.failNext('removeContainer');
    await node.start();
    vm.die('boom');
    await until('the death was seen', () => node.domain.containers.get(container).state === 'exited');
    expect(node.domain.sandboxes.get(id).state).toBe('notready');
  });

  test('a half made pod whose network cannot be torn down is seen, can be removed, and gives its name back', async () => {
    const { id } = await node.runPod('half');
    await halfMade(id);
    await node.stop();
    node.networks.failNextDetach = true;
    await node.start();
    expect(node.domain.sandboxes.list()).toEqual([expect.objectContaining({ id, state: 'notready' })]);
    await node.domain.sandboxes.remove(id);
    expect(node.vms.alive).toHaveLength(0);
    await node.runPod('half');
  });

  test('a half made container is undone, and its name can be used again', async () => {
    const { id } = await node.runPod();
    const container = await node.domain.containers.create(id, containerConfig(), never);
    await halfMade(container);
    await node.restart();
    expect(node.domain.containers.list()).toEqual([]);
    await node.startContainer(id);
  });

  test('a guest that fails to answer makes the pod NOTREADY instead of hiding it', async () => {
    const { id, vm } = await node.runPod();
    await node.stop();
    vm.agent.failNext('listContainers');
    await node.start();
    expect(node.domain.sandboxes.get(id)).toMatchObject({
      state: 'notready',
      reason: expect.stringContaining('cannot be recovered') as unknown,
    });
    await node.domain.sandboxes.remove(id);
  });
});

test('a StartContainer that was cut off: stop, output and exit reach the program all the same', async () => {
  const { id, vm } = await node.runPod();
  const container = await node.domain.containers.create(id, containerConfig(), never);
  const start = vm.agent.startContainer;
  vm.agent.startContainer = async (...args) => {
    await start(...args);
    throw new AppError('unavailable', 'connection lost');
  };
  await expect(node.domain.containers.start(container, never)).rejects.toThrow(/connection lost/);
  expect(node.domain.containers.get(container).state).toBe('running');
  await node.domain.containers.stop(container, 1, never);
  expect(node.domain.containers.get(container)).toMatchObject({ state: 'exited', exitCode: 143 });
  expect(vm.agent.containers.get(container)?.state).toBe(ContainerInfo_State.EXITED);
});

test('a program that has ended and told everything before its StartContainer returns is EXITED afterwards', async () => {
  const { id, vm } = await node.runPod();
  const container = await node.domain.containers.create(id, containerConfig(), never);
  const firstRead = Promise.withResolvers<undefined>();
  const { output, startContainer: start } = vm.agent;
  vm.agent.output = async function* (requests, signal) {
    for await (const record of output.call(vm.agent, requests, signal)) {
      yield record;
      if (record.exit === undefined) firstRead.resolve(undefined);
    }
  };
  vm.agent.startContainer = async (...args) => {
    const startedAt = await start.call(vm.agent, ...args);
    vm.agent.write(container, 'stdout', 'gone\n');
    vm.agent.exit(container, { code: 3 });
    await firstRead.promise;
    expect(node.domain.containers.get(container).state).toBe('created');
    return startedAt;
  };
  await node.domain.containers.start(container, never);
  await until('exited', () => node.domain.containers.get(container).state === 'exited');
  expect(node.domain.containers.get(container)).toMatchObject({ exitCode: 3, reason: 'Error' });
  expect(await readFile(node.domain.containers.get(container).logPath, 'utf8')).toMatch(/ stdout F gone\n$/);
});

test('a stop signal that could not be sent is sent by the next StopContainer', async () => {
  const { id, vm } = await node.runPod();
  const container = await node.startContainer(id, 'stubborn');
  vm.agent.failNext('signalContainer');
  const sent: number[] = [];
  const signal = vm.agent.signalContainer;
  vm.agent.signalContainer = (...args) => {
    sent.push(args[1]);
    return signal(...args);
  };
  await expect(node.domain.containers.stop(container, 1, AbortSignal.timeout(50))).rejects.toThrow();
  await node.domain.containers.stop(container, 1, never);
  expect(sent).toEqual([15, 15, 9]);
});

test('a pod whose network cannot be torn down has its programs ended all the same', async () => {
  const { id, vm } = await node.runPod();
  const container = await node.startContainer(id);
  vm.agent.signalContainer = () => Promise.reject(new AppError('unavailable', 'hung'));
  node.networks.failNextDetach = true;
  await expect(node.domain.sandboxes.stop(id)).rejects.toThrow(/detach fails/);
  expect(node.vms.alive).toHaveLength(0);
  expect(node.domain.containers.get(container).state).toBe('exited');
  await node.domain.sandboxes.stop(id);
  expect(node.networks.attached.size).toBe(0);
});

test('programs and machine are ended while the network is torn down, which keeps its namespace until it is', async () => {
  const { id, vm } = await node.runPod();
  const container = await node.startContainer(id);
  const tornDown = Promise.withResolvers<undefined>();
  const detach = node.networks.detach.bind(node.networks);
  node.networks.detach = async (...args) => {
    await tornDown.promise;
    await detach(...args);
  };
  const stopped = node.domain.sandboxes.stop(id);
  await until('the machine was halted', () => vm.halted);
  expect(node.domain.containers.get(container).state).toBe('exited');
  expect(vm.destroyed).toBe(false);
  expect(node.domain.sandboxes.get(id).ips).not.toEqual([]);
  tornDown.resolve(undefined);
  await stopped;
  expect(vm.destroyed).toBe(true);
});

test('a container that may still be in its guest keeps its disk', async () => {
  const { id, vm } = await node.runPod();
  vm.agent.failNext('createContainer');
  vm.agent.failNext('removeContainer');
  await expect(node.domain.containers.create(id, containerConfig(), never)).rejects.toThrow();
  expect(vm.disks.size).toBe(1);
});
