import { expect, test } from '@jest/globals';
import { hostLimits } from './host-limits.ts';
import type { LinuxResources } from './model.ts';

const mebibyte = 1024n * 1024n;
const of = (change: Partial<LinuxResources>): LinuxResources => ({
  cpuPeriod: 0n,
  cpuQuota: 0n,
  cpuShares: 0n,
  memoryLimitBytes: 0n,
  memorySwapLimitBytes: 0n,
  oomScoreAdj: 0,
  cpusetCpus: '',
  cpusetMems: '',
  hugepageLimits: [],
  unified: {},
  ...change,
});

test('the overhead of the pod comes on top, in the period of the pod', () => {
  const resources = of({ cpuPeriod: 100_000n, cpuQuota: 50_000n, cpuShares: 512n, memoryLimitBytes: 64n * mebibyte });
  const overhead = of({ cpuPeriod: 10_000n, cpuQuota: 1_000n, cpuShares: 102n, memoryLimitBytes: 200n * mebibyte });
  expect(hostLimits(resources, overhead)).toEqual({
    cpuPeriod: 100_000n,
    cpuQuota: 60_000n,
    cpuShares: 614n,
    memoryBytes: 264n * mebibyte,
    cpusetCpus: '',
    cpusetMems: '',
  });
});

test('without overhead the machine gets what it takes', () => {
  expect(hostLimits(of({ memoryLimitBytes: 64n * mebibyte }), undefined).memoryBytes).toBe(224n * mebibyte);
});

test('no limit stays none', () => {
  const lifted = of({ cpuQuota: -1n, cpuPeriod: 100_000n, memoryLimitBytes: 9_223_372_036_854_771_712n });
  const overhead = of({ cpuQuota: 5n, cpuPeriod: 10n, cpuShares: 2n, memoryLimitBytes: mebibyte });
  expect(hostLimits(lifted, overhead)).toMatchObject({ cpuQuota: -1n, cpuShares: 0n, memoryBytes: -1n });
  expect(hostLimits(of({}), overhead)).toMatchObject({ cpuQuota: 0n, cpuShares: 0n, memoryBytes: 0n });
});
