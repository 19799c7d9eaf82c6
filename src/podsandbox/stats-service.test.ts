import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { DomainFixture } from './fakes/domain-fixture.ts';

let node: DomainFixture;

beforeEach(async () => {
  node = await DomainFixture.create();
});

afterEach(async () => {
  await node[Symbol.asyncDispose]();
});

test('one question to each guest tells of its pod and containers', async () => {
  const { id, vm } = await node.runPod();
  const containers = [await node.startContainer(id, 'run', 'a'), await node.startContainer(id, 'run', 'b')];
  const [stats] = await node.domain.stats.of([id]);
  expect(stats).toMatchObject({ sandbox: { id }, answered: true, usage: { cpuNs: 7n }, scratch: { inodesFree: 3n } });
  expect(stats?.containers.map(({ container }) => container.id)).toEqual(containers);
  expect(vm.agent.asked).toBe(1);
});

test('a time that the guest makes up is not believed', async () => {
  const { id, vm } = await node.runPod();
  await node.startContainer(id);
  vm.agent.clockOffNs = 3_600_000_000_000n;
  const before = BigInt(Date.now()) * 1_000_000n;
  const [stats] = await node.domain.stats.of([id]);
  const at = stats?.containers[0]?.at ?? 0n;
  expect(at).toBeGreaterThanOrEqual(before);
  expect(at).toBeLessThanOrEqual(BigInt(Date.now()) * 1_000_000n);
});

test('a guest that hangs is asked once, holds nobody up, and hides no other', async () => {
  const [good, bad] = [await node.runPod('good'), await node.runPod('bad')];
  const container = await node.startContainer(good.id);
  await node.startContainer(bad.id);
  bad.vm.agent.hung = Promise.withResolvers();
  for (let round = 0; round < 2; round += 1) {
    const found = await node.domain.stats.of([good.id, bad.id]);
    expect(found).toMatchObject([
      { sandbox: { id: good.id }, answered: true, containers: [{ container: { id: container } }] },
      { sandbox: { id: bad.id }, answered: false, containers: [] },
    ]);
  }
  bad.vm.agent.hung.resolve(undefined);
  bad.vm.agent.hung = undefined;
  const [recovered] = await node.domain.stats.of([bad.id]);
  expect(recovered?.answered).toBe(true);
  expect(bad.vm.agent.asked).toBe(1);
  bad.vm.agent.hung = Promise.withResolvers();
  const [again] = await node.domain.stats.of([bad.id]);
  // As old as the last answer, and says so.
  expect(again).toMatchObject({ answered: false, containers: [{ at: recovered?.containers[0]?.at }] });
});

test('a dead VM, a stopped pod and an unknown id are left out; an error of the guest is no error', async () => {
  const [dead, stopped, failing] = [await node.runPod('dead'), await node.runPod('stopped'), await node.runPod('bad')];
  dead.vm.destroyed = true;
  await node.domain.sandboxes.stop(stopped.id);
  failing.vm.agent.failNext('stats');
  const found = await node.domain.stats.of([dead.id, stopped.id, failing.id]);
  expect(found).toMatchObject([{ sandbox: { id: failing.id }, answered: false }]);
});

test('open files and sockets are counted when somebody asks for them', async () => {
  const { id } = await node.runPod();
  await node.startContainer(id);
  const open = async (descriptors: boolean): Promise<bigint | undefined> =>
    (await node.domain.stats.of([id], descriptors))[0]?.containers[0]?.figures.descriptors?.open;
  expect([await open(false), await open(true)]).toEqual([undefined, 5n]);
});
