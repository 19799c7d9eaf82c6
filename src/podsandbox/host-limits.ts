import type { LinuxResources } from './model.ts';
import type { VmLimits } from './ports.ts';
import { limited } from './resources.ts';

/**
 * What QEMU and the guest's own kernel may take on the host beside the pod's containers, when the pod
 * does not say: docs/resources.md tells what was measured.
 */
const vmOverheadBytes = 160n * 1024n * 1024n;

/** Limits of a VM on the host: those of the pod's containers together, and its overhead on top. */
export function hostLimits(resources: LinuxResources, overhead: LinuxResources | undefined): VmLimits {
  const { cpuPeriod, cpuQuota, cpuShares, cpusetCpus, cpusetMems } = resources;
  const memory = limited(resources.memoryLimitBytes);
  const beside = overhead?.memoryLimitBytes ?? 0n;
  return {
    cpuPeriod,
    cpuQuota: cpuQuota <= 0n ? cpuQuota : cpuQuota + quotaIn(cpuPeriod, overhead),
    cpuShares: cpuShares === 0n ? 0n : cpuShares + (overhead?.cpuShares ?? 0n),
    memoryBytes: memory <= 0n ? memory : memory + (beside > 0n ? beside : vmOverheadBytes),
    cpusetCpus,
    cpusetMems,
  };
}

function quotaIn(period: bigint, overhead: LinuxResources | undefined): bigint {
  if (overhead === undefined || overhead.cpuQuota <= 0n || overhead.cpuPeriod <= 0n) return 0n;
  return (overhead.cpuQuota * period) / overhead.cpuPeriod;
}
