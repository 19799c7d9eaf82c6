import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { silentLog } from '../platform/log.ts';
import { type Parkable, Pool } from './pool.ts';
import { PoolDemand } from './pool-demand.ts';
import { RefillGate } from './refill-gate.ts';

class Parked implements Parkable {
  readonly id: string;
  readonly exited: Promise<{ readonly reason: string }>;
  destroyed = false;
  readonly #exit = Promise.withResolvers<{ readonly reason: string }>();

  constructor(id: string) {
    this.id = id;
    this.exited = this.#exit.promise;
  }

  die(): void {
    this.#exit.resolve({ reason: 'killed' });
  }

  async destroy(): Promise<void> {
    this.destroyed = true;
  }
}

interface Rig {
  readonly pool: Pool<Parked>;
  readonly made: Parked[];
  readonly sleeps: number[];
  readonly clock: { now: number };
  fail: number;
  short: boolean;
  readonly outdated: Set<Parked>;
}

function rig(floor: number, ceiling = floor): Rig {
  const made: Parked[] = [];
  const sleeps: number[] = [];
  const clock = { now: 0 };
  const sleep = async (ms: number): Promise<void> => {
    sleeps.push(ms);
    await turn();
  };
  const gate = new RefillGate({ concurrency: 1, quietMs: 0, maxYieldMs: 0 });
  const it: Rig = {
    made,
    sleeps,
    clock,
    fail: 0,
    short: false,
    outdated: new Set(),
    pool: new Pool({
      name: 'small',
      demand: new PoolDemand({ floor, ceiling, now: () => clock.now }),
      isShort: () => it.short,
      now: () => clock.now,
      gate,
      log: silentLog(),
      sleep,
      isCurrent: (vm) => !it.outdated.has(vm),
      make: async () => {
        await turn();
        if (it.fail-- > 0) throw new Error('no memory');
        const vm = new Parked(String(made.length));
        made.push(vm);
        return vm;
      },
    }),
  };
  return it;
}

async function until(condition: () => boolean): Promise<void> {
  for (let turns = 0; !condition(); turns++) {
    if (turns > 1_000) throw new Error('never happened');
    await turn();
  }
}

test('fills itself, gives the oldest, and refills', async () => {
  const { pool, made } = rig(2);
  pool.start();
  await until(() => pool.idle === 2);
  expect(pool.take()).toBe(made[0]);
  expect(pool.idle).toBe(1);
  await until(() => pool.idle === 2);
  expect(made).toHaveLength(3);
});

test('an empty pool answers at once', () => {
  const { pool } = rig(1);
  expect(pool.take()).toBeUndefined();
});

test('a burst larger than the pool gets each vm once', async () => {
  const { pool } = rig(3);
  pool.start();
  await until(() => pool.idle === 3);
  const taken = Array.from({ length: 5 }, () => pool.take());
  const ids = taken.flatMap((vm) => (vm ? [vm.id] : []));
  expect(new Set(ids).size).toBe(3);
  await until(() => pool.idle === 3);
});

test('a vm that dies while it waits is removed and replaced', async () => {
  const { pool, made } = rig(1);
  pool.start();
  await until(() => pool.idle === 1);
  made[0]?.die();
  await until(() => made.length === 2 && pool.idle === 1);
  expect(made[0]?.destroyed).toBe(true);
  expect(pool.take()).toBe(made[1]);
});

test('tries again after a failure, each time later', async () => {
  const it = rig(1);
  it.fail = 3;
  it.pool.start();
  await until(() => it.pool.idle === 1);
  expect(it.sleeps).toEqual([1_000, 2_000, 4_000]);
});

test('stop destroys what waits and makes no more', async () => {
  const { pool, made } = rig(2);
  pool.start();
  await until(() => pool.idle === 1);
  await pool.stop();
  expect(pool.idle).toBe(0);
  expect(made.every((vm) => vm.destroyed)).toBe(true);
  const before = made.length;
  expect(pool.take()).toBeUndefined();
  await turn();
  expect(made).toHaveLength(before);
});

test('claims are counted, and each vm has an age', async () => {
  const { pool, clock } = rig(2);
  pool.start();
  await until(() => pool.idle === 2);
  clock.now += 5_000;
  pool.take();
  await until(() => pool.idle === 2);
  clock.now += 1_000;
  expect(pool.state).toMatchObject({ idle: 2, size: 2, floor: 2, ceiling: 2, hits: 1, misses: 0 });
  expect(pool.state.agesMs).toEqual([6_000, 1_000]);
  pool.take();
  pool.take();
  pool.take();
  expect(pool.state).toMatchObject({ idle: 0, hits: 3, misses: 1, agesMs: [] });
});

test('a vm of no use is replaced by the next; without another one the claim was a miss', async () => {
  const { pool, made } = rig(2);
  pool.start();
  await until(() => pool.idle === 2);
  expect(pool.take()).toBe(made[0]);
  expect(pool.replace()).toBe(made[1]);
  expect(pool.state).toMatchObject({ hits: 1, misses: 0 });
  expect(pool.replace()).toBeUndefined();
  expect(pool.state).toMatchObject({ hits: 0, misses: 1 });
});

test('a burst makes the pool grow, and time lets it shrink, one vm after the other', async () => {
  const { pool, made, clock } = rig(1, 5);
  pool.start();
  await until(() => pool.idle === 1);
  for (let pod = 0; pod < 9; pod += 1) pool.take();
  expect(pool.size).toBe(5);
  await until(() => pool.idle === 5);
  await pool.adjust();
  expect(pool.idle).toBe(5);
  clock.now += 600_000;
  const oldest = made.at(-5);
  await pool.adjust();
  expect(pool.idle).toBe(4);
  expect(oldest?.destroyed).toBe(true);
  for (let look = 0; look < 9; look += 1) await pool.adjust();
  expect(pool.idle).toBe(1);
  expect(made.filter(({ destroyed }) => destroyed)).toHaveLength(4);
});

test('without memory to spare the pool empties and is not filled, until there is again', async () => {
  const it = rig(3);
  it.pool.start();
  await until(() => it.pool.idle === 3);
  it.short = true;
  for (const left of [2, 1, 0, 0]) {
    await it.pool.adjust();
    expect(it.pool.idle).toBe(left);
  }
  expect(it.pool.take()).toBeUndefined();
  await turn();
  expect(it.made).toHaveLength(3);
  it.short = false;
  await it.pool.adjust();
  await until(() => it.pool.idle === 3);
});

test('one that is out of date makes room for a new one, one at a time', async () => {
  const { pool, made, outdated } = rig(3);
  pool.start();
  await until(() => pool.idle === 3);
  for (const vm of made.slice(1)) outdated.add(vm);
  await pool.adjust();
  expect(made.map(({ destroyed }) => destroyed)).toEqual([false, true, false]);
  await until(() => pool.idle === 3);
  await pool.adjust();
  await until(() => pool.idle === 3);
  await pool.adjust();
  expect(made.map(({ destroyed }) => destroyed)).toEqual([false, true, true, false, false]);
});
