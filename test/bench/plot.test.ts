import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { distributionSvg } from './distribution-svg.ts';
import { drawn } from './plot.ts';

const published = join(import.meta.dirname, '../../docs/benchmarks');

const figure = {
  name: 'start <of> a pod',
  unit: 'ms',
  own: [10, 20, 30, 1_000],
  peer: [40, 50, 60, 70],
  target: { sense: 'at most', ratio: 0.5 },
} as const;

test('what is published is what the numbers beside it give', async () => {
  const files = await drawn(await readFile(join(published, 'compare.json'), 'utf8'));
  expect([...files.keys()].toSorted()).toEqual((await readdir(published)).toSorted());
  for (const [name, content] of files)
    expect([name, await readFile(join(published, name), 'utf8')]).toEqual([name, content]);
});

test('a drawing names the figure, both curves, the unit and the target', () => {
  const svg = distributionSvg(figure, 'then and there');
  expect(svg).toContain('<title>start &lt;of&gt; a pod</title>');
  expect(svg).toContain('then and there');
  expect(svg).toMatch(/kelyfos: median 25\.0, p90 .* ms, 4 runs/);
  expect(svg).toContain('containerd: median 55.0, p90 67.0 ms, 4 runs<');
  expect(svg).toContain('wanted: median ≤ 27.5 ms, 0.5 × that of containerd');
});

test('an outlier does not squeeze the drawing, and is told', () => {
  const svg = distributionSvg({ ...figure, own: [...Array<number>(30).fill(20), 9_000] }, '');
  expect(svg).toContain('31 runs, 1 beyond');
  expect(svg).not.toContain('>9000<');
});

test('without a target nothing is marked', () => {
  expect(distributionSvg({ ...figure, target: undefined }, '')).not.toContain('wanted');
});
