import { expect, test } from '@jest/globals';
import type * as cri from '../cri/gen/cri-types.ts';
import { imageTable } from './image-table.ts';

function image(id: string, size: number, more: Partial<cri.Image>): cri.Image {
  return { id: `sha256:${id.repeat(64)}`, repo_tags: [], repo_digests: [], size: String(size), ...more } as cri.Image;
}

test('a line for each tag, sorted, with sizes for people', () => {
  const table = imageTable([
    image('a', 4_300_000, { repo_tags: ['host:5000/app:2', 'host:5000/app:1'], pinned: true }),
    image('b', 999, { repo_digests: [`docker.io/library/old@sha256:${'1'.repeat(64)}`] }),
    image('c', 2_500_000_000, {}),
  ]);
  expect(table).toBe(
    [
      'IMAGE                  TAG     IMAGE ID       SIZE   PINNED',
      '<none>                 <none>  ccccccccccccc  2.5GB',
      'docker.io/library/old  <none>  bbbbbbbbbbbbb  999B',
      'host:5000/app          1       aaaaaaaaaaaaa  4.3MB  yes',
      'host:5000/app          2       aaaaaaaaaaaaa  4.3MB  yes',
      '',
    ].join('\n'),
  );
});

test('no images, a header all the same', () => {
  expect(imageTable([])).toBe('IMAGE  TAG  IMAGE ID  SIZE  PINNED\n');
});
