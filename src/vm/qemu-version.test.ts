import { expect, test } from '@jest/globals';
import { parseQemuVersion } from './qemu-version.ts';

test('keeps the package version, which a template depends on', () => {
  const output = 'QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003-2022 Fabrice Bellard';
  expect(parseQemuVersion('qemu', output)).toEqual({
    text: '7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)',
    major: 7,
    minor: 2,
  });
  expect(parseQemuVersion('qemu', 'QEMU emulator version 10.0.2\n')).toEqual({ text: '10.0.2', major: 10, minor: 0 });
});

test.each([
  ['QEMU emulator version 6.2.0', 'too old'],
  ['QEMU emulator version 7.1.0', 'too old'],
  ['busybox', 'is not qemu'],
])('refuses %s', (output, why) => {
  expect(() => parseQemuVersion('qemu', output)).toThrow(why);
});
