import { describe, expect, test } from '@jest/globals';
import type { LinuxResources } from './model.ts';
import { guestResources, mergeResources, refuseBeyondVm, refuseHugePages } from './resources.ts';

const none: LinuxResources = {
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
};
const mebibyte = 1024n * 1024n;

describe('an update', () => {
  const before: LinuxResources = {
    cpuPeriod: 100_000n,
    cpuQuota: 50_000n,
    cpuShares: 512n,
    memoryLimitBytes: mebibyte,
    memorySwapLimitBytes: mebibyte,
    oomScoreAdj: 900,
    cpusetCpus: '0',
    cpusetMems: '0',
    hugepageLimits: [{ pageSize: '2MB', limit: 0n }],
    unified: { 'memory.high': '1', 'pids.max': '7' },
  };

  test('leaves alone what it does not give', () => {
    expect(mergeResources(before, none)).toEqual(before);
  });

  test('replaces what it gives, one by one', () => {
    const change = { ...none, cpuQuota: -1n, memoryLimitBytes: 2n * mebibyte, unified: { 'memory.high': '2' } };
    expect(mergeResources(before, change)).toEqual({
      ...before,
      cpuQuota: -1n,
      memoryLimitBytes: 2n * mebibyte,
      unified: { 'memory.high': '2', 'pids.max': '7' },
    });
  });

  test('of nothing is the update', () => {
    expect(mergeResources(undefined, before)).toBe(before);
  });
});

test('a number that stands for no limit is none in the guest', () => {
  const { memoryLimitBytes } = guestResources({ ...none, memoryLimitBytes: 9_223_372_036_854_771_712n });
  expect(memoryLimitBytes).toBe(-1n);
});

test('huge pages can be denied, not given', () => {
  refuseHugePages({ ...none, hugepageLimits: [{ pageSize: '2MB', limit: 0n }] });
  expect(() => {
    refuseHugePages({ ...none, hugepageLimits: [{ pageSize: '2MB', limit: 4096n }] });
  }).toThrow('hugepage_limits: 4096 bytes in pages of 2MB: a virtual machine has no huge pages to give');
});

describe('a machine of 1 vCPU and 512 MiB', () => {
  const size = { vcpus: 1, memoryBytes: Number(512n * mebibyte) };
  const check = (before: Partial<LinuxResources> | undefined, after: Partial<LinuxResources>) => () => {
    refuseBeyondVm(size, before && { ...none, ...before }, { ...none, ...after });
  };

  test.each<[string, Partial<LinuxResources>]>([
    ['all of it', { memoryLimitBytes: 512n * mebibyte, cpuQuota: 100_000n, cpuPeriod: 100_000n }],
    ['no limits', { memoryLimitBytes: -1n, cpuQuota: -1n, cpuPeriod: 100_000n }],
    ['a limit that is none', { memoryLimitBytes: 2n ** 63n - 4096n }],
  ])('can give %s', (_, after) => {
    expect(check(undefined, after)).not.toThrow();
  });

  test('cannot give more memory or processors', () => {
    expect(check(undefined, { memoryLimitBytes: 513n * mebibyte })).toThrow(/more than the 512 MiB .* fixed/);
    expect(check({ cpuQuota: 1n, cpuPeriod: 10n }, { cpuQuota: 11n, cpuPeriod: 10n })).toThrow(/than the 1 vCPUs/);
  });

  test('keeps what was asked for when the container was made', () => {
    const large = { memoryLimitBytes: 4096n * mebibyte, cpuQuota: 400n, cpuPeriod: 100n };
    expect(check(large, { ...large, cpuShares: 5n })).not.toThrow();
  });
});
