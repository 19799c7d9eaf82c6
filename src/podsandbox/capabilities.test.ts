import { expect, test } from '@jest/globals';
import { capabilitySets } from './capabilities.ts';

const none = { add: [], drop: [], addAmbient: [] };

test('the default set is the one of the peers', () => {
  const { bounding, effective, permitted, inheritable, ambient } = capabilitySets(none, false);
  expect(bounding).toHaveLength(14);
  expect(effective).toEqual(bounding);
  expect(permitted).toEqual(bounding);
  expect([inheritable, ambient]).toEqual([[], []]);
});

test.each([
  [{ ...none, add: ['net_admin'] }, ['CAP_NET_ADMIN'], []],
  [{ ...none, drop: ['CHOWN'] }, [], ['CAP_CHOWN']],
  [{ ...none, add: ['ALL'], drop: ['NET_RAW'] }, ['CAP_SYS_ADMIN'], ['CAP_NET_RAW']],
])('%j', (request, has, lacks) => {
  const { effective } = capabilitySets(request, false);
  expect(effective).toEqual(expect.arrayContaining(has));
  for (const name of lacks) expect(effective).not.toContain(name);
});

test('drop ALL, add one leaves that one', () => {
  expect(capabilitySets({ ...none, drop: ['all'], add: ['CAP_NET_RAW'] }, false).effective).toEqual(['CAP_NET_RAW']);
});

test('ambient capabilities are in every set', () => {
  const sets = capabilitySets({ ...none, drop: ['ALL'], addAmbient: ['NET_BIND_SERVICE'] }, false);
  for (const set of Object.values(sets)) expect(set).toEqual(['CAP_NET_BIND_SERVICE']);
});

test('privileged is all of them', () => {
  expect(capabilitySets({ ...none, drop: ['ALL'] }, true).effective).toHaveLength(41);
});

test('an unknown name is refused', () => {
  expect(() => capabilitySets({ ...none, add: ['FLY'] }, false)).toThrow('unknown capability "FLY"');
});
