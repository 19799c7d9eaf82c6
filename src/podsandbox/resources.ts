import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ResourcesSchema } from '../agent/gen/agent/v1/agent_pb.js';
import { AppError } from '../platform/errors.ts';
import type { LinuxResources } from './model.ts';
import type { VmSize } from './ports.ts';

const mebibyte = 1024n * 1024n;
/** What a kubelet reads from a group without a limit and sends back: the largest number of pages that fit. */
const unlimitedFrom = 2n ** 62n;

/** What holds after an update: 0 and empty leave alone what was there. */
export function mergeResources(before: LinuxResources | undefined, change: LinuxResources): LinuxResources {
  if (before === undefined) return change;
  const number = (was: bigint, is: bigint): bigint => (is === 0n ? was : is);
  const text = (was: string, is: string): string => (is === '' ? was : is);
  return {
    cpuPeriod: number(before.cpuPeriod, change.cpuPeriod),
    cpuQuota: number(before.cpuQuota, change.cpuQuota),
    cpuShares: number(before.cpuShares, change.cpuShares),
    memoryLimitBytes: number(before.memoryLimitBytes, change.memoryLimitBytes),
    memorySwapLimitBytes: number(before.memorySwapLimitBytes, change.memorySwapLimitBytes),
    oomScoreAdj: change.oomScoreAdj === 0 ? before.oomScoreAdj : change.oomScoreAdj,
    cpusetCpus: text(before.cpusetCpus, change.cpusetCpus),
    cpusetMems: text(before.cpusetMems, change.cpusetMems),
    hugepageLimits: change.hugepageLimits.length === 0 ? before.hugepageLimits : change.hugepageLimits,
    unified: { ...before.unified, ...change.unified },
  };
}

/** Limits in the terms of the agent. */
export function guestResources(limits: LinuxResources): MessageInitShape<typeof ResourcesSchema> {
  return {
    cpuShares: limits.cpuShares,
    cpuQuotaUs: limits.cpuQuota,
    cpuPeriodUs: limits.cpuPeriod,
    cpusetCpus: limits.cpusetCpus,
    cpusetMems: limits.cpusetMems,
    memoryLimitBytes: limited(limits.memoryLimitBytes),
    memorySwapBytes: limited(limits.memorySwapLimitBytes),
    unified: { ...limits.unified },
  };
}

/** -1 instead of a number that means "none". */
export function limited(bytes: bigint): bigint {
  return bytes >= unlimitedFrom ? -1n : bytes;
}

/**
 * A kubelet limits every page size of its host to 0, which a guest without any does by itself. More
 * than that cannot be given.
 */
export function refuseHugePages({ hugepageLimits }: LinuxResources): void {
  const asked = hugepageLimits.find(({ limit }) => limit !== 0n);
  if (asked === undefined) return;
  throw new AppError(
    'failed-precondition',
    `hugepage_limits: ${String(asked.limit)} bytes in pages of ${asked.pageSize}: a virtual machine has no huge pages to give`,
  );
}

/**
 * A machine keeps the size it has started with: more would be promised and never be there. What was
 * asked for before stays as it is.
 */
export function refuseBeyondVm(size: VmSize, before: LinuxResources | undefined, after: LinuxResources): void {
  const memory = limited(after.memoryLimitBytes);
  if (memory > BigInt(size.memoryBytes) && memory !== before?.memoryLimitBytes) {
    throw new AppError(
      'failed-precondition',
      `memory_limit_in_bytes: ${String(memory)} is more than the ${String(BigInt(size.memoryBytes) / mebibyte)} MiB ` +
        "of the pod's virtual machine, whose size is fixed when the pod is made",
    );
  }
  const { cpuQuota, cpuPeriod } = after;
  const changed = cpuQuota !== before?.cpuQuota || cpuPeriod !== before.cpuPeriod;
  if (changed && cpuPeriod > 0n && cpuQuota > BigInt(size.vcpus) * cpuPeriod) {
    throw new AppError(
      'failed-precondition',
      `cpu_quota: ${String(cpuQuota)} in ${String(cpuPeriod)} µs is more than the ${String(size.vcpus)} vCPUs ` +
        "of the pod's virtual machine, whose size is fixed when the pod is made",
    );
  }
}
