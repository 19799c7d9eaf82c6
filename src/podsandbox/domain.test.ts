import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { AppError } from '../platform/errors.ts';
import { silentLog } from '../platform/log.ts';
import { Store } from '../store/store.ts';
import { createDomain, type Domain } from './domain.ts';
import { FakeImages } from './fakes/fake-images.ts';
import { FakeNetworks } from './fakes/fake-networks.ts';
import { FakeVms, type FakeVm } from './fakes/fake-vms.ts';
import type { ContainerId, SandboxId } from './ids.ts';
import type { ContainerConfig, NamespaceOptions, SandboxConfig } from './model.ts';

const never = new AbortController().signal;
const podNamespaces: NamespaceOptions = { network: 'pod', pid: 'container', ipc: 'pod', targetId: '' };

let folder: string;
let store: Store;
let vms: FakeVms;
let networks: FakeNetworks;
let domain: Domain;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-domain-'));
  vms = new FakeVms(folder);
  networks = new FakeNetworks();
  await startDaemon();
});

afterEach(async () => {
  await domain.close();
  await store.close();
  await rm(folder, { recursive: true });
});

async function startDaemon(): Promise<void> {
  store = Store.open(join(folder, 'state.lmdb'));
  domain = createDomain({
    store,
    vms,
    networks,
    images: new FakeImages(),
    binder: { bind: () => Promise.resolve() },
    handlers: new Map([['kelyfos', { className: 'default' }]]),
    defaultHandler: 'kelyfos',
    log: silentLog(),
  });
  await domain.recover();
}

/** A daemon that dies does no cleaning up; the next one finds the same VMs and records. */
async function restartDaemon(): Promise<void> {
  await domain.close();
  await store.close();
  await startDaemon();
}

function sandboxConfig(name = 'web', change: Partial<SandboxConfig> = {}): SandboxConfig {
  return {
    metadata: { name, uid: 'u1', namespace: 'default', attempt: 0 },
    hostname: name,
    logDirectory: join(folder, 'logs'),
    dns: undefined,
    portMappings: [],
    labels: { app: 'web' },
    annotations: {},
    cgroupParent: '',
    sysctls: {},
    namespaces: podNamespaces,
    resources: undefined,
    overhead: undefined,
    ...change,
  };
}

function containerConfig(program = 'run', name = 'app'): ContainerConfig {
  return {
    metadata: { name, attempt: 0 },
    image: 'busybox',
    userSpecifiedImage: 'busybox',
    imageAnnotations: {},
    command: [program],
    args: [],
    workingDir: '',
    env: [],
    mounts: [],
    devices: [],
    labels: {},
    annotations: {},
    logPath: `${name}/0.log`,
    stdin: false,
    stdinOnce: false,
    tty: false,
    resources: undefined,
    security: {
      privileged: false,
      capabilities: { add: [], drop: [], addAmbient: [] },
      namespaces: podNamespaces,
      runAsUser: undefined,
      runAsGroup: undefined,
      runAsUsername: '',
      supplementalGroups: [],
      strictSupplementalGroups: false,
      readonlyRootfs: false,
      noNewPrivileges: false,
      maskedPaths: [],
      readonlyPaths: [],
      seccomp: { type: 'unconfined', localhostRef: '' },
    },
    stopSignal: undefined,
  };
}

async function runPod(name?: string): Promise<{ readonly id: SandboxId; readonly vm: FakeVm }> {
  const id = await domain.sandboxes.run(sandboxConfig(name), '', never);
  const vm = vms.alive.at(-1);
  if (vm === undefined) throw new Error('no virtual machine');
  return { id, vm };
}

async function startContainer(sandbox: SandboxId, program?: string, name?: string): Promise<ContainerId> {
  const id = await domain.containers.create(sandbox, containerConfig(program, name), never);
  await domain.containers.start(id, never);
  return id;
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let turn = 0; !condition(); turn += 1) {
    if (turn > 2000) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

const kind = (expected: string): unknown => expect.objectContaining({ kind: expected });

describe('pod sandboxes', () => {
  test('run, stop, remove, each repeatable', async () => {
    const { id, vm } = await runPod();
    expect(domain.sandboxes.get(id)).toMatchObject({
      state: 'ready',
      ips: ['10.0.0.2'],
      vmId: vm.id,
      config: { labels: { app: 'web' } },
    });
    for (let again = 0; again < 2; again += 1) {
      await domain.sandboxes.stop(id);
      expect(domain.sandboxes.get(id)).toMatchObject({ state: 'notready', ips: [] });
    }
    expect(vms.alive).toHaveLength(0);
    expect(networks.attached.size).toBe(0);
    for (let again = 0; again < 2; again += 1) await domain.sandboxes.remove(id);
    expect(domain.sandboxes.list()).toEqual([]);
    expect(() => domain.sandboxes.get(id)).toThrow(kind('not-found'));
    await domain.sandboxes.stop('0'.repeat(64));
  });

  test('a name is taken once, also by two at the same moment', async () => {
    const results = await Promise.allSettled([
      domain.sandboxes.run(sandboxConfig(), '', never),
      domain.sandboxes.run(sandboxConfig(), '', never),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    await expect(domain.sandboxes.run(sandboxConfig(), '', never)).rejects.toEqual(kind('already-exists'));
  });

  test('host namespaces and unknown handlers are refused before anything is made', async () => {
    const hostNetwork = sandboxConfig('host', { namespaces: { ...podNamespaces, network: 'node' } });
    await expect(domain.sandboxes.run(hostNetwork, '', never)).rejects.toThrow(/host's network namespace/);
    await expect(domain.sandboxes.run(sandboxConfig(), 'nope', never)).rejects.toThrow(
      /"nope" is not configured; known: kelyfos/,
    );
    expect(vms.all).toHaveLength(0);
  });

  const steps: readonly [string, () => void][] = [
    [
      'claim',
      () => {
        vms.failNextClaim = true;
      },
    ],
    [
      'network',
      () => {
        networks.failNextAttach = true;
      },
    ],
    [
      'guest',
      () => {
        networks.onAttach = () => vms.all.at(-1)?.agent.failNext('configureSandbox');
      },
    ],
  ];
  test.each(steps)('a failure at %s leaves nothing, and the retry works', async (_step, arm) => {
    arm();
    await expect(domain.sandboxes.run(sandboxConfig(), '', never)).rejects.toThrow(/run pod sandbox default\/web: /);
    expect([vms.alive.length, networks.attached.size, domain.sandboxes.list().length]).toEqual([0, 0, 0]);
    networks.onAttach = () => undefined;
    await runPod();
  });

  test('a caller that goes away in the middle leaves nothing', async () => {
    const caller = new AbortController();
    networks.onAttach = () => {
      caller.abort();
    };
    await expect(domain.sandboxes.run(sandboxConfig(), '', caller.signal)).rejects.toEqual(kind('cancelled'));
    expect([vms.alive.length, networks.attached.size, domain.sandboxes.list().length]).toEqual([0, 0, 0]);
  });

  test('what could not be undone stays visible and can be removed', async () => {
    vms.failNextClaim = false;
    networks.onAttach = () => {
      networks.failNextDetach = true;
      vms.all.at(-1)?.agent.failNext('configureSandbox');
    };
    await expect(domain.sandboxes.run(sandboxConfig(), '', never)).rejects.toBeInstanceOf(AppError);
    const [left] = domain.sandboxes.list();
    expect(left).toMatchObject({ state: 'notready', reason: expect.stringContaining('network') as unknown });
    await domain.sandboxes.remove(left?.id ?? '');
    expect([vms.alive.length, networks.attached.size, domain.sandboxes.list().length]).toEqual([0, 0, 0]);
  });

  test('a failed stop is NOTREADY at once and finished by the next one', async () => {
    const { id, vm } = await runPod();
    vm.failNextDestroy = true;
    await expect(domain.sandboxes.stop(id)).rejects.toThrow(/cannot be ended/);
    expect(domain.sandboxes.get(id).state).toBe('notready');
    await domain.sandboxes.stop(id);
    expect(vms.alive).toHaveLength(0);
  });

  test('a VM that dies makes the pod NOTREADY and its containers EXITED', async () => {
    const { id, vm } = await runPod();
    const container = await startContainer(id);
    vm.die('killed by signal 9');
    await until('torn down', () => networks.attached.size === 0 && domain.containers.get(container).state === 'exited');
    expect(domain.sandboxes.get(id)).toMatchObject({
      state: 'notready',
      reason: 'virtual machine died: killed by signal 9',
    });
    expect(domain.containers.get(container)).toMatchObject({ exitCode: 255, reason: 'Error' });
  });
});

describe('containers', () => {
  test('run to completion with the last byte in the log before EXITED', async () => {
    const { id, vm } = await runPod();
    const container = await startContainer(id);
    expect(domain.containers.get(container)).toMatchObject({
      state: 'running',
      user: { uid: 1, gid: 2, supplementalGroups: [3] },
    });
    vm.agent.write(container, 'stdout', 'hello\n');
    vm.agent.exit(container, { code: 0 });
    await until('exited', () => domain.containers.get(container).state === 'exited');
    expect(await readFile(domain.containers.get(container).logPath, 'utf8')).toMatch(/ stdout F hello\n$/);
    expect(domain.containers.get(container)).toMatchObject({ exitCode: 0, reason: 'Completed' });
  });

  test.each([
    [{ code: 137, signal: 9, oomKilled: true }, 'OOMKilled'],
    [{ code: 2 }, 'Error'],
  ])('an exit %j has the reason %s', async (exit, reason) => {
    const { id, vm } = await runPod();
    const container = await startContainer(id);
    vm.agent.exit(container, exit);
    await until('exited', () => domain.containers.get(container).state === 'exited');
    expect(domain.containers.get(container)).toMatchObject({ exitCode: exit.code, reason });
  });

  test('a program that is not found fails in start, with exit code 128', async () => {
    const { id } = await runPod();
    const container = await domain.containers.create(id, containerConfig('missing'), never);
    await expect(domain.containers.start(container, never)).rejects.toThrow(/no such file/);
    expect(domain.containers.get(container)).toMatchObject({ state: 'exited', exitCode: 128, reason: 'StartError' });
    await expect(domain.containers.start(container, never)).rejects.toEqual(kind('failed-precondition'));
  });

  test('stop sends the stop signal, waits, and kills', async () => {
    const { id } = await runPod();
    const polite = await startContainer(id, 'run', 'polite');
    await domain.containers.stop(polite, 30, never);
    expect(domain.containers.get(polite)).toMatchObject({ state: 'exited', exitCode: 143 });
    const stubborn = await startContainer(id, 'stubborn', 'stubborn');
    const slow = domain.containers.stop(stubborn, 30, never);
    await domain.containers.stop(stubborn, 0, never);
    await slow;
    expect(domain.containers.get(stubborn)).toMatchObject({ state: 'exited', exitCode: 137 });
    await domain.containers.stop(stubborn, 0, never);
    await domain.containers.stop('0'.repeat(64), 0, never);
  });

  test('a caller that goes away during the grace time does not cause a SIGKILL', async () => {
    const { id } = await runPod();
    const container = await startContainer(id, 'stubborn');
    await expect(domain.containers.stop(container, 30, AbortSignal.timeout(20))).rejects.toEqual(kind('deadline'));
    expect(domain.containers.get(container).state).toBe('running');
  });

  test('containers of one image share a disk, which leaves with the last', async () => {
    const { id, vm } = await runPod();
    const [a, b] = [await startContainer(id, 'run', 'a'), await startContainer(id, 'run', 'b')];
    expect(vm.disks.size).toBe(1);
    await domain.containers.remove(a);
    expect(vm.disks.size).toBe(1);
    await domain.containers.remove(b);
    expect(vm.disks.size).toBe(0);
    expect(domain.containers.list()).toEqual([]);
    await domain.containers.remove(b);
  });

  test('a failed create leaves nothing, and the same name works again', async () => {
    const { id, vm } = await runPod();
    vm.agent.failNext('createContainer');
    await expect(domain.containers.create(id, containerConfig(), never)).rejects.toThrow(/create container "app": /);
    expect([domain.containers.list().length, vm.disks.size, vm.agent.containers.size]).toEqual([0, 0, 0]);
    await startContainer(id);
    await expect(domain.containers.create(id, containerConfig(), never)).rejects.toEqual(kind('already-exists'));
  });

  test('needs a ready sandbox, a present image, a command', async () => {
    const { id } = await runPod();
    await expect(domain.containers.create(id, { ...containerConfig(), image: 'absent' }, never)).rejects.toEqual(
      kind('not-found'),
    );
    await domain.sandboxes.stop(id);
    await expect(domain.containers.create(id, containerConfig(), never)).rejects.toEqual(kind('failed-precondition'));
  });

  test('exec returns output and exit code; a time-out is a deadline', async () => {
    const { id } = await runPod();
    const container = await startContainer(id);
    const done = await domain.containers.execSync(container, ['echo', 'hi'], 0, never);
    expect([Buffer.from(done.stdout).toString(), done.exitCode]).toEqual(['echo hi\n', 0]);
    expect((await domain.containers.execSync(container, ['false'], 5, never)).exitCode).toBe(1);
    await expect(domain.containers.execSync(container, ['sleep', '9'], 1, never)).rejects.toEqual(kind('deadline'));
  });

  test('ids resolve by unique prefix', async () => {
    const { id } = await runPod('one');
    expect(domain.sandboxes.resolve(id.slice(0, 13))).toBe(id);
    expect(domain.sandboxes.resolve('zz')).toBeUndefined();
    expect(() => domain.sandboxes.resolve('')).toThrow(kind('invalid'));
  });
});

describe('recovery', () => {
  test('adopts running pods, replays what they wrote, and sees exits that were missed', async () => {
    const { id, vm } = await runPod();
    const [goesOn, ended] = [await startContainer(id, 'run', 'goes-on'), await startContainer(id, 'run', 'ended')];
    const held = await domain.containers.create(id, containerConfig('run', 'held'), never);
    await domain.close();
    await store.close();
    vm.agent.write(goesOn, 'stdout', 'meanwhile\n');
    vm.agent.exit(ended, { code: 5 });
    await startDaemon();
    expect(domain.sandboxes.get(id)).toMatchObject({ state: 'ready', ips: ['10.0.0.2'] });
    expect(domain.containers.get(held).state).toBe('created');
    await until('exit seen', () => domain.containers.get(ended).state === 'exited');
    expect(domain.containers.get(ended).exitCode).toBe(5);
    await domain.containers.stop(goesOn, 0, never);
    expect(await readFile(domain.containers.get(goesOn).logPath, 'utf8')).toMatch(/ F meanwhile\n$/);
    await domain.containers.start(held, never);
  });

  test('a pod whose VM is gone is NOTREADY, its containers EXITED, its network detached', async () => {
    const { id, vm } = await runPod();
    const container = await startContainer(id);
    vm.destroyed = true;
    await restartDaemon();
    expect(domain.sandboxes.get(id)).toMatchObject({ state: 'notready', ips: [] });
    expect(domain.containers.get(container)).toMatchObject({ state: 'exited', exitCode: 255 });
    expect(networks.attached.size).toBe(0);
  });

  test('an end that was interrupted is finished', async () => {
    const { id, vm } = await runPod();
    vm.failNextDestroy = true;
    await expect(domain.sandboxes.stop(id)).rejects.toThrow();
    await restartDaemon();
    await until('ended', () => vms.alive.length === 0);
  });

  test('what no record owns is deleted', async () => {
    await vms.claim({ className: 'default' }, { step: (_name, work) => work() }, never);
    const { id } = await runPod();
    await restartDaemon();
    expect(vms.alive.map((vm) => vm.id)).toEqual([domain.sandboxes.get(id).vmId]);
  });
});
