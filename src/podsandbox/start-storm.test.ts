import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { AppError } from '../platform/errors.ts';
import { DomainFixture, never, until } from './fakes/domain-fixture.ts';

const limit = 3;
let node: DomainFixture;
/** Pods between their turn and their end, and the most there were. */
let starting = 0;
let most = 0;
let order: string[] = [];
let release: (() => void)[] = [];

beforeEach(async () => {
  node = await DomainFixture.create();
  node.concurrentStarts = limit;
  await node.restart();
  [starting, most, order, release] = [0, 0, [], []];
});

afterEach(async () => {
  await node[Symbol.asyncDispose]();
});

/** Holds each pod in its network until it is released. */
function holdNetworks(): void {
  const attach = node.networks.attach.bind(node.networks);
  node.networks.attach = async (request, ...rest) => {
    order.push(request.podName);
    most = Math.max(most, ++starting);
    const held = Promise.withResolvers<undefined>();
    release.push(() => {
      held.resolve(undefined);
    });
    await held.promise;
    starting -= 1;
    return attach(request, ...rest);
  };
}

test('a hundred pods at once start a few at a time, in the order in which they came', async () => {
  holdNetworks();
  const names = Array.from({ length: 100 }, (_, index) => `pod${String(index)}`);
  const started = Promise.all(names.map((name) => node.domain.sandboxes.run(node.sandboxConfig(name), '', never)));
  for (let pod = 0; pod < names.length; pod += 1) {
    await until(`pod ${String(pod)} starts`, () => release.length > pod);
    if (pod === 0) expect(node.domain.admission.state).toEqual({ limit, running: limit, waiting: 97 });
    release[pod]?.();
  }
  expect(new Set(await started).size).toBe(100);
  expect(order).toEqual(names);
  expect(most).toBeLessThanOrEqual(limit);
  expect(node.domain.admission.state).toEqual({ limit, running: 0, waiting: 0 });
});

test('who waits has nothing made for him, and can give up', async () => {
  holdNetworks();
  const first = ['a', 'b', 'c'].map((name) => node.domain.sandboxes.run(node.sandboxConfig(name), '', never));
  await until('three are at work', () => release.length === limit);
  const gone = new AbortController();
  const fourth = node.domain.sandboxes.run(node.sandboxConfig('d'), '', gone.signal);
  const fifth = node.domain.sandboxes.run(node.sandboxConfig('e'), '', never);
  await until('two wait', () => node.domain.admission.state.waiting === 2);
  expect(node.vms.all).toHaveLength(limit);
  gone.abort(new DOMException('the deadline of the call has passed', 'TimeoutError'));
  await expect(fourth).rejects.toMatchObject({
    kind: 'deadline',
    message: 'run pod sandbox default/d: wait for a turn: timed out',
  });
  for (const name of ['a', 'b', 'c', 'e']) {
    await until(`${name} is at work`, () => order.includes(name));
    release[order.indexOf(name)]?.();
  }
  await Promise.all([...first, fifth]);
  expect(order.slice(0, limit).toSorted()).toEqual(['a', 'b', 'c']);
  expect(node.vms.all).toHaveLength(4);
  // Its name is free again.
  const again = node.domain.sandboxes.run(node.sandboxConfig('d'), '', never);
  await until('it is at work', () => release.length === 5);
  release[4]?.();
  await again;
});

test('pods that fail make room as well', async () => {
  node.networks.attach = () => Promise.reject(new AppError('internal', 'no address left'));
  const names = Array.from({ length: 10 }, (_, index) => `bad${String(index)}`);
  const failing = names.map((name) => node.domain.sandboxes.run(node.sandboxConfig(name), '', never));
  for (const pod of await Promise.allSettled(failing)) expect(pod.status).toBe('rejected');
  expect(node.domain.admission.state).toMatchObject({ running: 0, waiting: 0 });
});
