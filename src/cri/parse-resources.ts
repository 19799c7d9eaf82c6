import type { LinuxResources } from '../podsandbox/model.ts';
import { int64, invalid, stringMap } from './fields.ts';
import type { LinuxContainerResources } from './gen/cri-types.ts';

function atLeast(minimum: bigint, text: string, field: string): bigint {
  const value = int64(text);
  if (value < minimum) throw invalid(field, `${text} is below ${String(minimum)}`);
  return value;
}

function cpuList(text: string, field: string): string {
  if (text !== '' && !/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(text))
    throw invalid(field, `"${text}" is not a list such as "0-3,7"`);
  return text;
}

export function parseResources(resources: LinuxContainerResources | null, field: string): LinuxResources | undefined {
  if (resources === null) return undefined;
  const oomScoreAdj = int64(resources.oom_score_adj);
  if (oomScoreAdj < -1000n || oomScoreAdj > 1000n) {
    throw invalid(`${field}.oom_score_adj`, `${resources.oom_score_adj} is not from -1000 to 1000`);
  }
  for (const name of Object.keys(resources.unified)) {
    if (!/^[a-z0-9_]+(\.[A-Za-z0-9_]+)+$/.test(name))
      throw invalid(`${field}.unified`, `has "${name}", which is no cgroup file`);
  }
  return {
    cpuPeriod: atLeast(0n, resources.cpu_period, `${field}.cpu_period`),
    cpuQuota: atLeast(-1n, resources.cpu_quota, `${field}.cpu_quota`),
    cpuShares: atLeast(0n, resources.cpu_shares, `${field}.cpu_shares`),
    memoryLimitBytes: atLeast(-1n, resources.memory_limit_in_bytes, `${field}.memory_limit_in_bytes`),
    memorySwapLimitBytes: atLeast(-1n, resources.memory_swap_limit_in_bytes, `${field}.memory_swap_limit_in_bytes`),
    oomScoreAdj: Number(oomScoreAdj),
    cpusetCpus: cpuList(resources.cpuset_cpus, `${field}.cpuset_cpus`),
    cpusetMems: cpuList(resources.cpuset_mems, `${field}.cpuset_mems`),
    hugepageLimits: resources.hugepage_limits.map(({ page_size: pageSize, limit }) => ({
      pageSize,
      limit: int64(limit),
    })),
    unified: stringMap(resources.unified),
  };
}

/** The way back, for ContainerStatus. */
export function shapeResources(resources: LinuxResources): LinuxContainerResources {
  return {
    cpu_period: String(resources.cpuPeriod),
    cpu_quota: String(resources.cpuQuota),
    cpu_shares: String(resources.cpuShares),
    memory_limit_in_bytes: String(resources.memoryLimitBytes),
    memory_swap_limit_in_bytes: String(resources.memorySwapLimitBytes),
    oom_score_adj: String(resources.oomScoreAdj),
    cpuset_cpus: resources.cpusetCpus,
    cpuset_mems: resources.cpusetMems,
    hugepage_limits: resources.hugepageLimits.map(({ pageSize, limit }) => ({
      page_size: pageSize,
      limit: String(limit),
    })),
    unified: resources.unified,
  };
}
