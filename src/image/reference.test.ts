import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { canonicalName, idPrefix, parseReference, repositoryOf } from './reference.ts';

const hex = '0123456789abcdef'.repeat(4);
const digest = `sha256:${hex}`;

test.each([
  ['busybox', 'docker.io/library/busybox:latest'],
  ['busybox:1.36', 'docker.io/library/busybox:1.36'],
  ['user/app', 'docker.io/user/app:latest'],
  ['docker.io/busybox', 'docker.io/library/busybox:latest'],
  ['index.docker.io/user/app:1', 'docker.io/user/app:1'],
  ['docker.io/library/busybox:latest', 'docker.io/library/busybox:latest'],
  ['localhost/app', 'localhost/app:latest'],
  ['localhost:5000/a/b/c:v1', 'localhost:5000/a/b/c:v1'],
  ['registry.example/a_b/c__d/e-f.g:V_1.2-x', 'registry.example/a_b/c__d/e-f.g:V_1.2-x'],
  ['[::1]:5000/app', '[::1]:5000/app:latest'],
  ['10.0.0.1:5000/app', '10.0.0.1:5000/app:latest'],
  ['MyHost/app', 'MyHost/app:latest'],
  [`busybox@${digest}`, `docker.io/library/busybox@${digest}`],
  [`busybox:1.36@${digest}`, `docker.io/library/busybox@${digest}`],
  [`host:5000/app@${digest}`, `host:5000/app@${digest}`],
  ['sha256:abc', 'docker.io/library/sha256:abc'],
])('%s is %s', (text, canonical) => {
  const reference = parseReference(text);
  expect(reference.kind === 'name' && canonicalName(reference)).toBe(canonical);
});

test.each([hex, digest])('%s is an id', (text) => {
  expect(parseReference(text)).toEqual({ kind: 'id', id: digest });
});

test.each([
  ...[
    '',
    ' ',
    ':',
    '@',
    '/',
    'a/',
    '/a',
    'a//b',
    'A',
    'user/App',
    'a:',
    'a:b:c',
    'a@',
    'a b',
    'a\nb',
    '-a',
    'a-',
    'a..b',
  ],
  ...[
    'host:port/app',
    'ho_st.x/app',
    `a@sha256:${hex.slice(1)}`,
    `a@sha512:${hex}${hex}`,
    `a@${digest}x`,
    `a:${'t'.repeat(129)}`,
  ],
  ...['a'.repeat(250), 'host.example/../../etc', 'docker://busybox', 'oci:/etc', `a@${digest}0`, 'a:-x', '[::1/app'],
])('%j is refused', (text) => {
  expect(() => parseReference(text)).toThrow(/image reference/);
});

const part = fc.stringMatching(/^[a-z0-9]{1,8}(?:[._-][a-z0-9]{1,4})?$/);
const domain = fc.oneof(
  fc.constant('localhost'),
  fc.stringMatching(/^[a-z0-9]{1,8}\.[a-z]{2,5}$/),
  fc.stringMatching(/^[a-z0-9]{1,8}:[1-9][0-9]{1,3}$/),
);
const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/);

test('what is put together is taken apart', () => {
  fc.assert(
    fc.property(
      domain,
      fc.array(part, { minLength: 1, maxLength: 4 }),
      tag,
      fc.boolean(),
      (host, parts, name, pinned) => {
        const path = parts.join('/');
        const reference = parseReference(`${host}/${path}:${name}${pinned ? `@${digest}` : ''}`);
        expect(reference).toEqual({ kind: 'name', domain: host, path, tag: name, ...(pinned ? { digest } : {}) });
        if (reference.kind === 'name') expect(repositoryOf(reference)).toBe(`${host}/${path}`);
      },
    ),
  );
});

test('any text is a reference with a stable canonical name, or an error of ours', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-zA-Z0-9:@/._-]{0,30}$/)), (text) => {
      let reference;
      try {
        reference = parseReference(text);
      } catch (error) {
        expect(error).toMatchObject({ kind: 'invalid' });
        return;
      }
      if (reference.kind === 'id') return;
      const canonical = canonicalName(reference);
      const again = parseReference(canonical);
      expect(again.kind === 'name' && canonicalName(again)).toBe(canonical);
      // Nothing that another program could take for an option, another transport or a path.
      expect(canonical).toMatch(/^[a-zA-Z0-9[][\w.:[\]-]*(?:\/[a-z0-9._-]+)+[:@][\w.:-]+$/);
    }),
    { numRuns: 2_000 },
  );
});

test('the beginning of an id is recognised with and without algorithm', () => {
  expect(idPrefix('sha256:0123abc')).toBe('0123abc');
  expect(idPrefix('0123abc')).toBe('0123abc');
  expect(idPrefix('busybox')).toBeUndefined();
  expect(idPrefix(`${hex}0`)).toBeUndefined();
});
