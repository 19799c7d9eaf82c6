import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { Store } from '../store/store.ts';
import { outputStart } from './output-pump.ts';
import { openRecords } from './records.ts';

test('a checkpoint comes back as it was, with and without a position', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kelyfos-records-'));
  const store = Store.open(join(folder, 'state.lmdb'));
  try {
    const { checkpoints } = openRecords(store);
    await checkpoints.put('a', outputStart);
    expect(checkpoints.get('a')).toEqual(outputStart);
    const later = {
      sequence: 9n,
      position: { inode: 2n ** 60n, size: 5 },
      pending: { stdout: Buffer.from('x'), stderr: Buffer.alloc(0) },
    };
    await checkpoints.put('a', later);
    const back = checkpoints.get('a');
    expect(back?.position).toEqual(later.position);
    expect(Buffer.from(back?.pending.stdout ?? []).toString()).toBe('x');
  } finally {
    await store.close();
    await rm(folder, { recursive: true });
  }
});
