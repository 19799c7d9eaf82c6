import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Admission } from './admission.ts';

const never = new AbortController().signal;

test('so many at once, the rest in the order in which they came', async () => {
  const admission = new Admission(2);
  const entered: number[] = [];
  const leave: (() => void)[] = [];
  for (let caller = 0; caller < 6; caller += 1) {
    void admission.enter('start', never).then((done) => {
      entered.push(caller);
      leave.push(done);
    });
  }
  await turn();
  expect(entered).toEqual([0, 1]);
  expect(admission.state).toEqual({ limit: 2, running: 2, waiting: 4 });
  leave[1]?.();
  await turn();
  expect(entered).toEqual([0, 1, 2]);
  leave[0]?.();
  leave[2]?.();
  await turn();
  expect(entered).toEqual([0, 1, 2, 3, 4]);
  for (const done of leave) done();
  await turn();
  leave[5]?.();
  expect(entered).toEqual([0, 1, 2, 3, 4, 5]);
  expect(admission.state).toEqual({ limit: 2, running: 0, waiting: 0 });
});

test('a place that was given back twice is one place', async () => {
  const admission = new Admission(1);
  const leave = await admission.enter('start', never);
  leave();
  leave();
  expect(admission.state.running).toBe(0);
});

test('who gives up leaves the queue and keeps nobody', async () => {
  const admission = new Admission(1);
  const leave = await admission.enter('start', never);
  const gone = new AbortController();
  const second = admission.enter('start pod b', gone.signal);
  const third = admission.enter('start pod c', never);
  gone.abort(new DOMException('late', 'TimeoutError'));
  await expect(second).rejects.toMatchObject({ kind: 'deadline', message: 'start pod b: timed out' });
  expect(admission.state.waiting).toBe(1);
  leave();
  (await third)();
  expect(admission.state).toMatchObject({ running: 0, waiting: 0 });
  await expect(admission.enter('start pod b', gone.signal)).rejects.toMatchObject({ kind: 'deadline' });
});

test('whoever comes, gives up, fails or ends: never too many, in order, and nothing is lost', async () => {
  const action = fc.record({ what: fc.constantFrom('come', 'end', 'give up'), which: fc.nat(30) });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.array(action, { maxLength: 60 }), async (limit, actions) => {
      const admission = new Admission(limit);
      const entered: number[] = [];
      const inside: (() => void)[] = [];
      const waiting: AbortController[] = [];
      let came = 0;
      for (const { what, which } of actions) {
        if (what === 'come') {
          const caller = came++;
          const stop = new AbortController();
          waiting.push(stop);
          admission.enter('start', stop.signal).then(
            (leave) => {
              entered.push(caller);
              inside.push(leave);
            },
            () => undefined,
          );
        } else if (what === 'end') {
          inside.splice(which % Math.max(1, inside.length), 1)[0]?.();
        } else {
          waiting[which]?.abort();
        }
        await turn();
        expect(inside.length).toBeLessThanOrEqual(limit);
        expect(admission.state.running).toBe(inside.length);
        expect(admission.state.waiting === 0 || inside.length === limit).toBe(true);
      }
      expect(entered).toEqual(entered.toSorted((a, b) => a - b));
      while (inside.length > 0) {
        inside.shift()?.();
        await turn();
      }
      expect(admission.state).toEqual({ limit, running: 0, waiting: 0 });
    }),
    { numRuns: 60 },
  );
});
