import { describe, expect, test } from '@jest/globals';
import { AppError } from '../platform/errors.ts';
import type * as cri from './gen/cri-types.ts';
import { parseIdMappings, parseUserNamespace, shapeUserNamespace } from './parse-user-namespace.ts';

const mapping = (container_id = 0, host_id = 65536, length = 65536): cri.IDMapping => ({
  container_id,
  host_id,
  length,
});
const options = (change: Partial<cri.UserNamespace> = {}): cri.UserNamespace => ({
  mode: 'POD',
  uids: [mapping()],
  gids: [mapping(0, 131072)],
  ...change,
});

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof AppError) return `${error.kind}: ${error.message}`;
    throw error;
  }
  return 'accepted';
}

describe('a user namespace', () => {
  test('is echoed as it was asked for', () => {
    for (const asked of [options(), options({ mode: 'NODE', uids: [], gids: [] }), null])
      expect(shapeUserNamespace(parseUserNamespace(asked, 'x'))).toEqual(asked);
  });

  test.each<[Partial<cri.UserNamespace>, string]>([
    [{ mode: 'CONTAINER' }, 'invalid: x.mode cannot be CONTAINER'],
    [{ mode: 'TARGET', uids: [], gids: [] }, 'invalid: x.mode cannot be TARGET'],
    [{ mode: 'NODE' }, 'invalid: x has mappings, but mode is NODE'],
    [{ uids: [], gids: [] }, 'invalid: x has no mappings, but mode is POD'],
    [{ gids: [] }, 'invalid: x.gids is empty, but the other is not'],
    [{ uids: [mapping(), mapping(70000)] }, 'invalid: x.uids has 2 mappings, only one is supported'],
    [{ gids: [mapping(1)] }, 'invalid: x.gids[0].container_id is not 0: root has to be mapped'],
    [{ uids: [mapping(0, 1, 0)] }, 'invalid: x.uids[0].length is 0'],
    [{ uids: [mapping(0, 4294967295, 1)] }, 'invalid: x.uids[0] has 1 ids from host_id 4294967295 on'],
  ])('%j is refused', (change, message) => {
    expect(refusal(() => parseUserNamespace(options(change), 'x')).slice(0, message.length)).toBe(message);
  });
});

test('a volume may have several mappings, or none', () => {
  const list = [mapping(0, 1, 1), mapping(1, 100, 5)];
  expect(parseIdMappings(list, list, ['u', 'g'])?.uids).toEqual([
    { containerId: 0, hostId: 1, length: 1 },
    { containerId: 1, hostId: 100, length: 5 },
  ]);
  expect(parseIdMappings([], [], ['u', 'g'])).toBeUndefined();
});
