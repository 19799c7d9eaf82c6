import { expect, test } from '@jest/globals';
import { silentLog } from '../platform/log.ts';
import { FakeGuest } from './fakes/fake-guest.ts';
import { alignClock } from './guest-clock.ts';

const never = new AbortController().signal;

test.each([-3_000, -300, 0, 10, 300, 7_000])('a clock that is %i ms off agrees afterwards', async (offMs) => {
  const guest = new FakeGuest();
  guest.clockOffNs = BigInt(offMs) * 1_000_000n;
  const { clockNs } = await guest.configureSandbox({});
  await alignClock(guest, clockNs, silentLog(), never);
  expect(Math.abs(Number(guest.clockOffNs / 1_000_000n))).toBeLessThanOrEqual(25);
});

test('an answer that took long is no reason to move a good clock', async () => {
  const guest = new FakeGuest();
  await alignClock(guest, BigInt(Date.now() - 500) * 1_000_000n, silentLog(), never);
  expect(Math.abs(Number(guest.clockOffNs))).toBeLessThan(25_000_000);
});
