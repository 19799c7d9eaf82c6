import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { parse } from 'smol-toml';
import { installDir } from './install-dir.ts';
import { configKeys } from './keys.ts';
import { builtIn, configSchema } from './schema.ts';
import { mergeLayers } from './layers.ts';

const text = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
const rows = [...text.matchAll(/^\| `([^`]+)` \| (.+?) \| (.+?) \| (.+) \|$/gm)].map(
  ([, key, accepts, fallback, meaning]) => ({
    key,
    accepts,
    fallback,
    meaning,
  }),
);

function shown(fallback: unknown): string {
  if (fallback === undefined) return 'none';
  const json = JSON.stringify(fallback).replaceAll(installDir, '<install>').replaceAll('","', '", "');
  return `\`${json}\``;
}

test('docs/configuration.md has every key with what is accepted and its default, and no other', () => {
  const documented = rows.map(({ key, accepts, fallback }) => ({ key, accepts, fallback }));
  const known = configKeys().map(({ key, accepts, fallback }) => ({ key, accepts, fallback: shown(fallback) }));
  const byKey = (a: { key?: string | undefined }, b: { key?: string | undefined }): number =>
    (a.key ?? '') < (b.key ?? '') ? -1 : 1;
  expect(documented.toSorted(byKey)).toEqual(known.toSorted(byKey));
});

test('each key has a meaning', () => {
  for (const { key, meaning } of rows) expect(`${key ?? ''}: ${meaning ?? ''}`).toMatch(/: [A-Z0-9`<].+[.]$/);
});

test('the example is a valid configuration', () => {
  const example = /```toml\n([\s\S]*?)```/.exec(text)?.[1] ?? '';
  const { values } = mergeLayers([
    { source: 'default', values: builtIn },
    { source: 'example', values: parse(example) },
  ]);
  expect(configSchema.parse(values).vm.classes).toHaveProperty('big');
});
