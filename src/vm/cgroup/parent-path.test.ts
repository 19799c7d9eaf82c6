import { describe, expect, test } from '@jest/globals';
import { groupName, parentParts, sliceOf } from './parent-path.ts';

test('cgroupfs takes a path as it is', () => {
  expect(parentParts('cgroupfs', '/kubepods/burstable/pod1-2')).toEqual(['kubepods', 'burstable', 'pod1-2']);
  expect(parentParts('cgroupfs', '/test.slice/')).toEqual(['test.slice']);
  expect(groupName('cgroupfs', 'ab')).toBe('kelyfos-ab');
});

describe('systemd', () => {
  test.each([
    [
      'kubepods-burstable-podu_1.slice',
      ['kubepods.slice', 'kubepods-burstable.slice', 'kubepods-burstable-podu_1.slice'],
    ],
    ['/kubepods.slice/kubepods-podu_1.slice', ['kubepods.slice', 'kubepods-podu_1.slice']],
    ['/test.slice', ['test.slice']],
  ])('finds the slices above %s in its name', (parent, parts) => {
    expect(parentParts('systemd', parent)).toEqual(parts);
  });

  test('makes a scope of the VM', () => {
    expect(groupName('systemd', 'ab')).toBe('kelyfos-ab.scope');
  });

  test.each(['/kubepods/pod1', '/', 'a--b.slice', '-a.slice', '.slice'])('refuses %s, which is no slice', (parent) => {
    expect(() => sliceOf(parent)).toThrow(`cgroup_parent "${parent}" is not the name of a slice`);
  });
});
