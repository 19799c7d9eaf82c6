/** Limits of a VM on the host. 0 or empty leaves one alone, -1 lifts it. */
export interface GroupLimits {
  /** On the scale of cgroup v1: 2 to 262144. */
  readonly cpuShares: bigint;
  /** Microseconds. */
  readonly cpuQuota: bigint;
  readonly cpuPeriod: bigint;
  readonly memoryBytes: bigint;
  readonly cpusetCpus: string;
  readonly cpusetMems: string;
}

export interface LimitFile {
  readonly controller: 'cpu' | 'memory' | 'cpuset';
  readonly file: string;
  readonly value: string;
}

const defaultPeriod = 100_000n;

/** What to write where, in an order the kernel takes. */
export function limitFiles(version: 1 | 2, limits: GroupLimits): readonly LimitFile[] {
  const { cpuShares, cpuQuota, cpuPeriod, memoryBytes, cpusetCpus, cpusetMems } = limits;
  const set = (wanted: boolean, controller: LimitFile['controller'], file: string, value: string): LimitFile[] =>
    wanted ? [{ controller, file, value }] : [];
  const cpusets = [
    ...set(cpusetMems !== '', 'cpuset', 'cpuset.mems', cpusetMems),
    ...set(cpusetCpus !== '', 'cpuset', 'cpuset.cpus', cpusetCpus),
  ];
  if (version === 1) {
    return [
      ...set(cpuShares !== 0n, 'cpu', 'cpu.shares', String(cpuShares)),
      ...set(cpuPeriod !== 0n, 'cpu', 'cpu.cfs_period_us', String(cpuPeriod)),
      ...set(cpuQuota !== 0n, 'cpu', 'cpu.cfs_quota_us', String(cpuQuota)),
      ...set(memoryBytes !== 0n, 'memory', 'memory.limit_in_bytes', String(memoryBytes)),
      ...cpusets,
    ];
  }
  const period = cpuPeriod === 0n ? defaultPeriod : cpuPeriod;
  const orMax = (value: bigint): string => (value < 0n ? 'max' : String(value));
  return [
    ...set(cpuShares !== 0n, 'cpu', 'cpu.weight', String(weight(cpuShares))),
    ...set(cpuQuota !== 0n, 'cpu', 'cpu.max', `${orMax(cpuQuota)} ${String(period)}`),
    ...set(memoryBytes !== 0n, 'memory', 'memory.max', orMax(memoryBytes)),
    ...cpusets,
  ];
}

/** As the kubelet converts for its own groups beside ours: linearly from 2..262144 to 1..10000. */
function weight(shares: bigint): bigint {
  const [least, most] = [2n, 262_144n];
  const within = shares < least ? least : shares > most ? most : shares;
  return 1n + ((within - least) * 9999n) / (most - least);
}
