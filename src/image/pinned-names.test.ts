import { expect, test } from '@jest/globals';
import { PinnedNames } from './pinned-names.ts';

const digest = `sha256:${'a'.repeat(64)}`;

test.each([
  ['busybox', 'docker.io/library/busybox:latest', true],
  ['busybox', 'docker.io/library/busybox:1', false],
  ['registry:5000/app:1', 'registry:5000/app:1', true],
  [`registry/app@${digest}`, `docker.io/registry/app@${digest}`, true],
  ['a'.repeat(64), digest, true],
  ['registry.k8s.io/pause:*', 'registry.k8s.io/pause:3.10', true],
  ['registry.k8s.io/pause:*', 'registryXk8s.io/pause:3.10', false],
  ['registry.k8s.io/pause:*', 'mirror/registry.k8s.io/pause:3.10', false],
  ['*/pause:*', 'mirror/pause:1', true],
  ['*', 'anything:1', true],
])('%s and %s: %s', (pattern, name, pinned) => {
  expect(new PinnedNames([pattern]).has(['other:1', name])).toBe(pinned);
});

test('nothing is pinned by default; a name that can be none is refused', () => {
  expect(new PinnedNames([]).has(['docker.io/library/busybox:latest'])).toBe(false);
  expect(() => new PinnedNames(['Busybox:'])).toThrow(/^pinned images: image reference "Busybox:": bad tag$/);
});
