import { expect, test } from '@jest/globals';
import { Trace } from './trace.ts';

function clocked(): { trace: Trace; pass: (ms: number) => void } {
  let now = 5_000;
  const trace = new Trace('RunPodSandbox', { steady: () => now, wall: () => 1_700_000_000_000 });
  return { trace, pass: (ms) => (now += ms) };
}

test('steps have their begin, and parts stand below what they are part of', async () => {
  const { trace, pass } = clocked();
  await trace.step('record', async () => {
    pass(2);
  });
  const answer = await trace.step('claim', async (parts) => {
    pass(1);
    await parts.step('resume', async () => {
      pass(5);
    });
    return 'vm';
  });
  pass(0.5);
  trace.end();
  pass(100);
  expect(answer).toBe('vm');
  expect(trace.result).toEqual({
    request: 'RunPodSandbox',
    startedAt: 1_700_000_000_000_000_000n,
    ms: 8.5,
    steps: [
      { name: 'record', startMs: 0, ms: 2, depth: 0 },
      { name: 'claim', startMs: 2, ms: 6, depth: 0 },
      { name: 'resume', startMs: 3, ms: 5, depth: 1 },
    ],
  });
});

test('steps beside each other overlap, and keep their parts apart', async () => {
  const { trace, pass } = clocked();
  const slow = Promise.withResolvers<undefined>();
  const network = trace.step('network', (parts) => parts.step('cni bridge', () => slow.promise));
  pass(1);
  await trace.step('cgroup', async () => {
    pass(2);
  });
  pass(4);
  slow.resolve(undefined);
  await network;
  expect(trace.result.steps).toEqual([
    { name: 'network', startMs: 0, ms: 7, depth: 0 },
    { name: 'cni bridge', startMs: 0, ms: 7, depth: 1 },
    { name: 'cgroup', startMs: 1, ms: 2, depth: 0 },
  ]);
});

test('a step that fails is timed as well, and its error goes on', async () => {
  const { trace, pass } = clocked();
  await expect(
    trace.step('claim', async () => {
      pass(3);
      throw new Error('no vm');
    }),
  ).rejects.toThrow('no vm');
  expect(trace.result.steps).toEqual([{ name: 'claim', startMs: 0, ms: 3, depth: 0 }]);
});

test('what still goes on ends now', () => {
  const { trace, pass } = clocked();
  void trace.step('claim', () => new Promise(() => undefined));
  pass(9);
  expect(trace.result).toMatchObject({ ms: 9, steps: [{ name: 'claim', ms: 9 }] });
});

test('what is reached after the end counts from the begin', () => {
  const { trace, pass } = clocked();
  pass(3);
  trace.end();
  pass(4);
  expect(trace.reached('first log line')).toEqual({ name: 'first log line', startMs: 0, ms: 7, depth: 0 });
  expect(trace.result).toMatchObject({ ms: 3, steps: [{ name: 'first log line', ms: 7 }] });
});

test('a trace does not grow without end', async () => {
  const { trace } = clocked();
  for (let step = 0; step < 500; step += 1) await trace.step('again', () => Promise.resolve());
  expect(trace.result.steps).toHaveLength(128);
});
