import { expect, test } from '@jest/globals';
import { parseMappings } from './qemu-memory.ts';

const mapping = (range: string, permissions: string, path: string, anonymousKiB: number): string =>
  `${range} ${permissions} 00000000 00:01 1060 ${path === '' ? '' : `                      ${path}`}
Size:             262144 kB
Rss:              100000 kB
Private_Dirty:     90000 kB
Anonymous:      ${String(anonymousKiB)} kB
VmFlags: rd wr mr mw me ac sd
`;

test('what is a QEMU alone belongs to the guest, its translated code, or QEMU', () => {
  const smaps = [
    mapping('55d0f3a0c000-55d0f3b00000', 'r--p', '/usr/bin/qemu-system-x86_64', 1000),
    mapping('55d110000000-55d110800000', 'rw-p', '[heap]', 2000),
    mapping('7f0000000000-7f0080000000', 'rw-p', '/memfd:kelyfos-0123456789ab (deleted)', 10_000),
    mapping('7f0080000000-7f0084000000', 'rwxp', '', 30_000),
    mapping('7f0084000000-7f0085000000', 'rw-p', '', 4000),
    mapping('ffffffffff600000-ffffffffff601000', '--xp', '[vsyscall]', 0),
  ].join('');
  expect(parseMappings(smaps)).toEqual({ guestMB: 10.24, translatedMB: 30.72, otherMB: 7.168 });
});

test('a text of another kind has nothing in it', () => {
  expect(parseMappings('')).toEqual({ guestMB: 0, translatedMB: 0, otherMB: 0 });
});
