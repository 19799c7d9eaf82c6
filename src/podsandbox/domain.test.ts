import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { AppError } from '../platform/errors.ts';
import { untraced } from '../vm/step-trace.ts';
import type { ContainerConfig, IdMappings, NamespaceOptions } from './model.ts';
import { busybox } from './fakes/fake-images.ts';
import { containerConfig, DomainFixture, never, podNamespaces, until } from './fakes/domain-fixture.ts';

let node: DomainFixture;

beforeEach(async () => {
  node = await DomainFixture.create();
});

afterEach(async () => {
  await node[Symbol.asyncDispose]();
});

const kind = (expected: string): unknown => expect.objectContaining({ kind: expected });

describe('pod sandboxes', () => {
  test('run, stop, remove, each repeatable', async () => {
    const { id, vm } = await node.runPod();
    expect(node.domain.sandboxes.get(id)).toMatchObject({
      state: 'ready',
      ips: ['10.0.0.2'],
      vmId: vm.id,
      config: { labels: { app: 'web' } },
    });
    for (let again = 0; again < 2; again += 1) {
      await node.domain.sandboxes.stop(id);
      expect(node.domain.sandboxes.get(id)).toMatchObject({ state: 'notready', ips: [] });
    }
    expect(node.vms.alive).toHaveLength(0);
    expect(node.networks.attached.size).toBe(0);
    for (let again = 0; again < 2; again += 1) await node.domain.sandboxes.remove(id);
    expect(node.domain.sandboxes.list()).toEqual([]);
    expect(() => node.domain.sandboxes.get(id)).toThrow(kind('not-found'));
    await node.domain.sandboxes.stop('0'.repeat(64));
  });

  test('lists give the same objects until something has changed, and then what it has become', async () => {
    const [{ id }, other] = [await node.runPod('web'), await node.runPod('other')];
    const container = await node.startContainer(id);
    const { sandboxes, containers } = node.domain;
    const listed = { pods: sandboxes.list(), containers: containers.list() };
    expect(sandboxes.list().every((pod, at) => pod === listed.pods[at])).toBe(true);
    expect(containers.list().every((one, at) => one === listed.containers[at])).toBe(true);
    await sandboxes.stop(id);
    const states = Object.fromEntries(sandboxes.list().map((pod) => [pod.id, [pod.state, pod.pid]]));
    expect(states).toMatchObject({ [id]: ['notready', 0], [other.id]: ['ready', other.vm.pid] });
    expect(containers.list()).toMatchObject([{ id: container, state: 'exited' }]);
    expect(sandboxes.list().find((pod) => pod.id === other.id)).toBe(listed.pods.find((pod) => pod.id === other.id));
  });

  test('a pod has the id that its machine has a network for', async () => {
    const reserved = 'ab'.repeat(32);
    node.vms.onClaim = (vm) => {
      vm.podId = reserved;
    };
    const { id } = await node.runPod();
    expect([id, [...node.networks.attached.keys()]]).toEqual([reserved, [reserved]]);
    expect(node.domain.sandboxes.traces(id)).toMatchObject([{ request: 'RunPodSandbox' }]);
    await node.domain.sandboxes.stop(id);
    expect(node.networks.attached.size).toBe(0);
  });

  test('the network of a machine whose pod fails is taken away', async () => {
    node.vms.onClaim = (vm) => {
      vm.podId = 'ab'.repeat(32);
      vm.agent.failNext('configureSandbox');
    };
    await expect(node.domain.sandboxes.run(node.sandboxConfig(), '', never)).rejects.toThrow(/configureSandbox fails/);
    expect([node.vms.alive.length, node.networks.attached.size]).toEqual([0, 0]);
  });

  test('a name is taken once, also by two at the same moment', async () => {
    const results = await Promise.allSettled([
      node.domain.sandboxes.run(node.sandboxConfig(), '', never),
      node.domain.sandboxes.run(node.sandboxConfig(), '', never),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    await expect(node.domain.sandboxes.run(node.sandboxConfig(), '', never)).rejects.toEqual(kind('already-exists'));
  });

  test('host namespaces and unknown handlers are refused before anything is made', async () => {
    const hostNetwork = node.sandboxConfig('host', { namespaces: { ...podNamespaces, network: 'node' } });
    await expect(node.domain.sandboxes.run(hostNetwork, '', never)).rejects.toThrow(/host's network namespace/);
    await expect(node.domain.sandboxes.run(node.sandboxConfig(), 'nope', never)).rejects.toThrow(
      /"nope" is not configured; known: kelyfos/,
    );
    expect(node.vms.all).toHaveLength(0);
  });

  const steps: readonly [string, () => void][] = [
    [
      'claim',
      () => {
        node.vms.failNextClaim = true;
      },
    ],
    [
      'network',
      () => {
        node.networks.failNextAttach = true;
      },
    ],
    [
      'guest',
      () => {
        node.networks.onAttach = () => node.vms.all.at(-1)?.agent.failNext('configureSandbox');
      },
    ],
  ];
  test.each(steps)('a failure at %s leaves nothing, and the retry works', async (_step, arm) => {
    arm();
    await expect(node.domain.sandboxes.run(node.sandboxConfig(), '', never)).rejects.toThrow(
      /run pod sandbox default\/web: /,
    );
    expect([node.vms.alive.length, node.networks.attached.size, node.domain.sandboxes.list().length]).toEqual([
      0, 0, 0,
    ]);
    node.networks.onAttach = () => undefined;
    await node.runPod();
  });

  test('a caller that goes away in the middle leaves nothing', async () => {
    const caller = new AbortController();
    node.networks.onAttach = () => {
      caller.abort();
    };
    await expect(node.domain.sandboxes.run(node.sandboxConfig(), '', caller.signal)).rejects.toEqual(kind('cancelled'));
    expect([node.vms.alive.length, node.networks.attached.size, node.domain.sandboxes.list().length]).toEqual([
      0, 0, 0,
    ]);
  });

  test('what could not be undone stays visible and can be removed', async () => {
    node.vms.failNextClaim = false;
    node.networks.onAttach = () => {
      node.networks.failNextDetach = true;
      node.vms.all.at(-1)?.agent.failNext('configureSandbox');
    };
    await expect(node.domain.sandboxes.run(node.sandboxConfig(), '', never)).rejects.toBeInstanceOf(AppError);
    const [left] = node.domain.sandboxes.list();
    expect(left).toMatchObject({ state: 'notready', reason: expect.stringContaining('network') as unknown });
    await node.domain.sandboxes.remove(left?.id ?? '');
    expect([node.vms.alive.length, node.networks.attached.size, node.domain.sandboxes.list().length]).toEqual([
      0, 0, 0,
    ]);
  });

  test('a failed stop is NOTREADY at once and finished by the next one', async () => {
    const { id, vm } = await node.runPod();
    vm.failNextDestroy = true;
    await expect(node.domain.sandboxes.stop(id)).rejects.toThrow(/cannot be ended/);
    expect(node.domain.sandboxes.get(id).state).toBe('notready');
    await node.domain.sandboxes.stop(id);
    expect(node.vms.alive).toHaveLength(0);
  });

  test('a VM that dies makes the pod NOTREADY and its containers EXITED', async () => {
    const { id, vm } = await node.runPod();
    const container = await node.startContainer(id);
    vm.die('killed by signal 9');
    await until(
      'torn down',
      () => node.networks.attached.size === 0 && node.domain.containers.get(container).state === 'exited',
    );
    expect(node.domain.sandboxes.get(id)).toMatchObject({
      state: 'notready',
      reason: 'virtual machine died: killed by signal 9',
    });
    expect(node.domain.containers.get(container)).toMatchObject({ exitCode: 255, reason: 'Error' });
  });
});

describe('containers', () => {
  const badProfile = { type: 'localhost', localhostRef: '/no/such/profile.json' } as const;
  test.each<[string, ContainerConfig, () => void]>([
    [
      'that does not get as far as the guest',
      { ...containerConfig(), security: { ...containerConfig().security, seccomp: badProfile } },
      () => undefined,
    ],
    ['that the guest refuses', containerConfig(), () => node.vms.alive.at(-1)?.agent.failNext('createContainer')],
  ])('a container %s leaves no disk that the guest still has', async (_how, config, arm) => {
    const { id, vm } = await node.runPod();
    const file = `/images/${busybox.id}`;
    vm.disks.set('ready', file);
    vm.spare.set(file, 'ready');
    vm.agent.kept.add('ready');
    arm();
    await expect(node.domain.containers.create(id, config, never)).rejects.toThrow(/create container "app"/);
    expect([vm.disks.size, vm.agent.kept.size]).toEqual([0, 0]);
    await node.startContainer(id);
  });

  test('run to completion with the last byte in the log before EXITED', async () => {
    const { id, vm } = await node.runPod();
    const container = await node.startContainer(id);
    expect(node.domain.containers.get(container)).toMatchObject({
      state: 'running',
      user: { uid: 1, gid: 2, supplementalGroups: [3] },
    });
    vm.agent.write(container, 'stdout', 'hello\n');
    vm.agent.exit(container, { code: 0 });
    await until('exited', () => node.domain.containers.get(container).state === 'exited');
    expect(await readFile(node.domain.containers.get(container).logPath, 'utf8')).toMatch(/ stdout F hello\n$/);
    expect(node.domain.containers.get(container)).toMatchObject({ exitCode: 0, reason: 'Completed' });
  });

  test.each([
    [{ code: 137, signal: 9, oomKilled: true }, 'OOMKilled'],
    [{ code: 2 }, 'Error'],
  ])('an exit %j has the reason %s', async (exit, reason) => {
    const { id, vm } = await node.runPod();
    const container = await node.startContainer(id);
    vm.agent.exit(container, exit);
    await until('exited', () => node.domain.containers.get(container).state === 'exited');
    expect(node.domain.containers.get(container)).toMatchObject({ exitCode: exit.code, reason });
  });

  test('a program that is not found fails in start, with exit code 128', async () => {
    const { id } = await node.runPod();
    const container = await node.domain.containers.create(id, containerConfig('missing'), never);
    await expect(node.domain.containers.start(container, never)).rejects.toThrow(/no such file/);
    expect(node.domain.containers.get(container)).toMatchObject({
      state: 'exited',
      exitCode: 128,
      reason: 'StartError',
    });
    await expect(node.domain.containers.start(container, never)).rejects.toEqual(kind('failed-precondition'));
  });

  test('stop sends the stop signal, waits, and kills', async () => {
    const { id } = await node.runPod();
    const polite = await node.startContainer(id, 'run', 'polite');
    await node.domain.containers.stop(polite, 30, never);
    expect(node.domain.containers.get(polite)).toMatchObject({ state: 'exited', exitCode: 143 });
    const stubborn = await node.startContainer(id, 'stubborn', 'stubborn');
    const slow = node.domain.containers.stop(stubborn, 30, never);
    await node.domain.containers.stop(stubborn, 0, never);
    await slow;
    expect(node.domain.containers.get(stubborn)).toMatchObject({ state: 'exited', exitCode: 137 });
    await node.domain.containers.stop(stubborn, 0, never);
    await node.domain.containers.stop('0'.repeat(64), 0, never);
  });

  test('a caller that goes away during the grace time does not cause a SIGKILL', async () => {
    const { id } = await node.runPod();
    const container = await node.startContainer(id, 'stubborn');
    await expect(node.domain.containers.stop(container, 30, AbortSignal.timeout(20))).rejects.toEqual(kind('deadline'));
    expect(node.domain.containers.get(container).state).toBe('running');
  });

  test('containers of one image share a disk, which leaves with the last', async () => {
    const { id, vm } = await node.runPod();
    const [a, b] = [await node.startContainer(id, 'run', 'a'), await node.startContainer(id, 'run', 'b')];
    expect(vm.disks.size).toBe(1);
    await node.domain.containers.remove(a);
    expect(vm.disks.size).toBe(1);
    await node.domain.containers.remove(b);
    expect(vm.disks.size).toBe(0);
    expect(node.domain.containers.list()).toEqual([]);
    await node.domain.containers.remove(b);
  });

  test('a failed create leaves nothing, and the same name works again', async () => {
    const { id, vm } = await node.runPod();
    vm.agent.failNext('createContainer');
    await expect(node.domain.containers.create(id, containerConfig(), never)).rejects.toThrow(
      /create container "app": /,
    );
    expect([node.domain.containers.list().length, vm.disks.size, vm.agent.containers.size]).toEqual([0, 0, 0]);
    await node.startContainer(id);
    await expect(node.domain.containers.create(id, containerConfig(), never)).rejects.toEqual(kind('already-exists'));
  });

  test('needs a ready sandbox, a present image, a command', async () => {
    const { id } = await node.runPod();
    await expect(node.domain.containers.create(id, { ...containerConfig(), image: 'absent' }, never)).rejects.toEqual(
      kind('not-found'),
    );
    await node.domain.sandboxes.stop(id);
    await expect(node.domain.containers.create(id, containerConfig(), never)).rejects.toEqual(
      kind('failed-precondition'),
    );
  });

  test('is no more privileged than its pod, and has its users', async () => {
    const users = (hostId: number): IdMappings => {
      const mapping = [{ containerId: 0, hostId, length: 65_536 }];
      return { uids: mapping, gids: mapping };
    };
    const config = containerConfig();
    const asking = (security: Partial<ContainerConfig['security']>): ContainerConfig => ({
      ...config,
      security: { ...config.security, ...security },
    });
    const inUsers = (asked: NamespaceOptions['users']): ContainerConfig =>
      asking({ namespaces: { ...config.security.namespaces, ...(asked === undefined ? {} : { users: asked }) } });
    const { containers, sandboxes } = node.domain;
    const plain = await node.runPod();
    for (const wrong of [asking({ privileged: true }), inUsers(users(100_000))])
      await expect(containers.create(plain.id, wrong, never)).rejects.toEqual(kind('invalid'));
    await containers.create(plain.id, inUsers('node'), never);

    const namespaces = { ...config.security.namespaces, users: users(100_000) };
    const mapped = await sandboxes.run(node.sandboxConfig('mapped', { namespaces }), '', never);
    for (const wrong of [inUsers('node'), inUsers(users(200_000))])
      await expect(containers.create(mapped, wrong, never)).rejects.toEqual(kind('invalid'));
    await containers.create(mapped, inUsers(users(100_000)), never);
  });

  test('exec returns output and exit code; a time-out is a deadline', async () => {
    const { id } = await node.runPod();
    const container = await node.startContainer(id);
    const done = await node.domain.containers.execSync(container, ['echo', 'hi'], 0, never);
    expect([Buffer.from(done.stdout).toString(), done.exitCode]).toEqual(['echo hi\n', 0]);
    expect((await node.domain.containers.execSync(container, ['false'], 5, never)).exitCode).toBe(1);
    await expect(node.domain.containers.execSync(container, ['sleep', '9'], 1, never)).rejects.toEqual(
      kind('deadline'),
    );
  });

  test('ids resolve by unique prefix', async () => {
    const { id } = await node.runPod('one');
    expect(node.domain.sandboxes.resolve(id.slice(0, 13))).toBe(id);
    expect(node.domain.sandboxes.resolve('zz')).toBeUndefined();
    expect(() => node.domain.sandboxes.resolve('')).toThrow(kind('invalid'));
  });
});

describe('recovery', () => {
  test('adopts running pods, replays what they wrote, and sees exits that were missed', async () => {
    const { id, vm } = await node.runPod();
    const [goesOn, ended] = [
      await node.startContainer(id, 'run', 'goes-on'),
      await node.startContainer(id, 'run', 'ended'),
    ];
    const held = await node.domain.containers.create(id, containerConfig('run', 'held'), never);
    await node.stop();
    vm.agent.write(goesOn, 'stdout', 'meanwhile\n');
    vm.agent.exit(ended, { code: 5 });
    await node.start();
    expect(node.domain.sandboxes.get(id)).toMatchObject({ state: 'ready', ips: ['10.0.0.2'] });
    expect(node.domain.containers.get(held).state).toBe('created');
    await until('exit seen', () => node.domain.containers.get(ended).state === 'exited');
    expect(node.domain.containers.get(ended).exitCode).toBe(5);
    await node.domain.containers.stop(goesOn, 0, never);
    expect(await readFile(node.domain.containers.get(goesOn).logPath, 'utf8')).toMatch(/ F meanwhile\n$/);
    await node.domain.containers.start(held, never);
  });

  test('a pod whose VM is gone is NOTREADY, its containers EXITED, its network detached', async () => {
    const { id, vm } = await node.runPod();
    const container = await node.startContainer(id);
    vm.destroyed = true;
    await node.restart();
    expect(node.domain.sandboxes.get(id)).toMatchObject({ state: 'notready', ips: [] });
    expect(node.domain.containers.get(container)).toMatchObject({ state: 'exited', exitCode: 255 });
    expect(node.networks.attached.size).toBe(0);
  });

  test('an end that was interrupted is finished', async () => {
    const { id, vm } = await node.runPod();
    vm.failNextDestroy = true;
    await expect(node.domain.sandboxes.stop(id)).rejects.toThrow();
    await node.restart();
    await until('ended', () => node.vms.alive.length === 0);
  });

  test('what no record owns is deleted', async () => {
    await node.vms.claim({ className: 'default' }, untraced, never);
    const { id } = await node.runPod();
    await node.restart();
    expect(node.vms.alive.map((vm) => vm.id)).toEqual([node.domain.sandboxes.get(id).vmId]);
  });
});
