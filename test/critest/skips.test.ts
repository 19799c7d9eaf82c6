import { describe, expect, test } from '@jest/globals';
import { readReport } from './report.ts';
import { judge, unreachableSpec } from './skips.ts';

const report = (...specs: readonly Readonly<Record<string, unknown>>[]): string =>
  JSON.stringify([
    {
      SpecReports: specs.map((spec) => ({
        ContainerHierarchyTexts: ['[k8s.io] Container'],
        LeafNodeType: 'It',
        LeafNodeText: 'starts',
        State: 'passed',
        RunTime: 1.5e9,
        ...spec,
      })),
    },
  ]);

describe('the report of ginkgo', () => {
  test('names, outcomes and times are read', () => {
    expect(readReport(report({}))).toEqual([
      { name: '[k8s.io] Container starts', outcome: 'passed', reason: '', seconds: 1.5 },
    ]);
  });

  test.each(['failed', 'panicked', 'timedout', 'interrupted', 'aborted', 'pending'])('%s is a failure', (State) => {
    expect(readReport(report({ State, Failure: { Message: 'why' } }))).toMatchObject([
      { outcome: 'failed', reason: 'why' },
    ]);
  });

  test('a suite that cannot be set up has failed, one that can is no spec', () => {
    const suite = { ContainerHierarchyTexts: null, LeafNodeType: 'SynchronizedBeforeSuite', LeafNodeText: '' };
    expect(readReport(report(suite))).toEqual([]);
    expect(readReport(report({ ...suite, State: 'failed' }))).toMatchObject([
      { name: 'SynchronizedBeforeSuite', outcome: 'failed' },
    ]);
  });
});

describe('what may be skipped', () => {
  const skipped = (name: string, reason: string) => ({ name, reason, outcome: 'skipped' as const, seconds: 0 });

  test.each([
    ['[k8s.io] AppArmor runtime should enforce', 'AppArmor is not enabled'],
    ['[k8s.io] Image benchmark about listing', ''],
    [`[k8s.io] Image Manager ${unreachableSpec}`, ''],
  ])('%s', (name, reason) => {
    const { skipped: skips, unexpected } = judge([skipped(name, reason)]);
    expect(skips).toHaveLength(1);
    expect(unexpected).toEqual([]);
  });

  test.each([
    ['[k8s.io] AppArmor runtime should enforce', ''],
    ['[k8s.io] Security Context UserNamespaces', 'no runtime handler found which supports user namespaces'],
    ['[k8s.io] Container starts', ''],
  ])('not %s, because of "%s"', (name, reason) => {
    const spec = skipped(name, reason);
    expect(judge([spec])).toEqual({ passed: 0, failed: [], skipped: [], unexpected: [spec] });
  });
});
