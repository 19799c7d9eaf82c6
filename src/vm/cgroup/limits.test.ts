import { expect, test } from '@jest/globals';
import { limitFiles, type GroupLimits } from './limits.ts';

const none: GroupLimits = {
  cpuShares: 0n,
  cpuQuota: 0n,
  cpuPeriod: 0n,
  memoryBytes: 0n,
  cpusetCpus: '',
  cpusetMems: '',
};
const lines = (version: 1 | 2, limits: Partial<GroupLimits>): string[] =>
  limitFiles(version, { ...none, ...limits }).map(({ file, value }) => `${file}=${value}`);

const all = {
  cpuShares: 1024n,
  cpuQuota: 50_000n,
  cpuPeriod: 100_000n,
  memoryBytes: 4096n,
  cpusetCpus: '0-1',
  cpusetMems: '0',
};

test('nothing asked for is nothing written', () => {
  expect([...lines(1, {}), ...lines(2, {})]).toEqual([]);
});

test('v1 has a file for each, the period before the quota', () => {
  expect(lines(1, all)).toEqual([
    'cpu.shares=1024',
    'cpu.cfs_period_us=100000',
    'cpu.cfs_quota_us=50000',
    'memory.limit_in_bytes=4096',
    'cpuset.mems=0',
    'cpuset.cpus=0-1',
  ]);
});

test('v2 has weights, and quota and period in one', () => {
  expect(lines(2, all)).toEqual([
    'cpu.weight=39',
    'cpu.max=50000 100000',
    'memory.max=4096',
    'cpuset.mems=0',
    'cpuset.cpus=0-1',
  ]);
  expect(lines(2, { cpuShares: 2n })).toEqual(['cpu.weight=1']);
  expect(lines(2, { cpuShares: 1n << 40n })).toEqual(['cpu.weight=10000']);
});

test('limits are lifted', () => {
  expect(lines(1, { cpuQuota: -1n, memoryBytes: -1n })).toEqual(['cpu.cfs_quota_us=-1', 'memory.limit_in_bytes=-1']);
  expect(lines(2, { cpuQuota: -1n, memoryBytes: -1n })).toEqual(['cpu.max=max 100000', 'memory.max=max']);
});
