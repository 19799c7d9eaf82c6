import { describe, expect, test } from '@jest/globals';
import { parseConfigFile } from './config-schema.ts';

describe('a CNI configuration file', () => {
  test('holds a list in .conflist', () => {
    const text = JSON.stringify({
      cniVersion: '1.0.0',
      name: 'n',
      plugins: [{ type: 'bridge', mtu: 1400 }, { type: 'portmap' }],
    });
    expect(parseConfigFile('10-n.conflist', text)).toEqual({
      name: 'n',
      cniVersion: '1.0.0',
      plugins: [{ type: 'bridge', mtu: 1400 }, { type: 'portmap' }],
    });
  });

  test.each(['a.conf', 'a.json'])('holds one plugin in %s', (file) => {
    expect(parseConfigFile(file, '{"name": "n", "type": "ptp", "ipMasq": true}')).toMatchObject({
      name: 'n',
      cniVersion: '0.1.0',
      plugins: [{ type: 'ptp', ipMasq: true }],
    });
  });

  test('may offer several versions', () => {
    const offer = (cniVersions: string[]): string =>
      parseConfigFile('a.conf', JSON.stringify({ name: 'n', type: 't', cniVersion: '0.4.0', cniVersions })).cniVersion;
    expect(offer(['1.0.0', '1.1.0', '2.0.0'])).toBe('1.1.0');
    expect(offer(['2.0.0'])).toBe('0.4.0');
  });

  test.each([
    ['a.conflist', '', 'the file is empty'],
    ['a.conflist', '{', 'not valid JSON'],
    ['a.conflist', '[]', 'content: '],
    ['a.conflist', '{"name": "n", "plugins": []}', 'plugins: has no plugin'],
    ['a.conflist', '{"name": "n", "plugins": [{}]}', 'plugins.0.type: '],
    ['a.conflist', '{"name": "../n", "plugins": [{"type": "t"}]}', 'name: must be letters'],
    ['a.conflist', '{"plugins": [{"type": "t"}]}', 'name: '],
    ['a.conf', '{"name": "n", "plugins": [{"type": "t"}]}', 'must be in a file named *.conflist'],
    ['a.conf', '{"name": "n", "type": "../t"}', 'type: must be the name of a plugin'],
    [
      'a.conf',
      '{"name": "n", "type": "t", "cniVersion": "3.0.0"}',
      'cniVersion 3.0.0 is not supported (accepted: 0.1.0, ',
    ],
  ])('%s with %s is refused', (file, text, message) => {
    expect(() => parseConfigFile(file, text)).toThrow(message);
  });
});
