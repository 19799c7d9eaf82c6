import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { cpioArchive, fileMode, folderMode } from './cpio.ts';

const entries = [
  { path: 'lib', mode: folderMode | 0o755 },
  { path: 'lib/odd', mode: fileMode | 0o644, content: Buffer.from('12345') },
  { path: 'init', mode: fileMode | 0o755, content: Buffer.alloc(4096, 7) },
  { path: 'empty', mode: fileMode | 0o600, content: Buffer.alloc(0) },
];

test('every part is aligned to four bytes and the trailer is last', () => {
  const archive = cpioArchive(entries);
  expect(archive.length % 4).toBe(0);
  expect(archive.toString('latin1', 0, 6)).toBe('070701');
  expect(archive.toString('latin1').trimEnd()).toContain('TRAILER!!!');
  expect(cpioArchive(entries).equals(archive)).toBe(true);
});

test('tar-like tools read it back', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cpio-'));
  try {
    execFileSync('cpio', ['-i', '--quiet', '-d'], { cwd: folder, input: cpioArchive(entries) });
    expect(readFileSync(join(folder, 'lib/odd'), 'utf8')).toBe('12345');
    expect(readFileSync(join(folder, 'init'))).toHaveLength(4096);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
