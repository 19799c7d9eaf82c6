import type { LinuxResources } from '../../podsandbox/model.ts';
import type { ContainerStats, Pressure, SandboxStats } from '../../podsandbox/stats-model.ts';
import { type Figure, known, secondsOf } from './figure.ts';

type Figures = ContainerStats['figures'];

/** What the kernel takes when nothing else is said. */
const defaultPeriodUs = 100_000n;
const defaultShares = 1024n;

/** Name of the disk with the writable layers; the guest's own name for it says nothing to anybody. */
const scratchDevice = 'scratch';

/** All that is known of a container. Counters are since it was created. */
export function containerFigures(stats: ContainerStats, scratch: SandboxStats['scratch']): readonly Figure[] {
  const { container, at, figures } = stats;
  return [
    ...known('container_last_seen', secondsOf(at)),
    ...known('container_start_time_seconds', secondsOf(container.startedAt)),
    ...cpu(figures),
    ...memory(figures),
    ...disks(figures),
    ...writableLayer(figures, scratch),
    ...processes(figures),
    ...pressure('cpu', figures.cpuPressure),
    ...pressure('memory', figures.memoryPressure),
    ...pressure('io', figures.ioPressure),
    ...limits(container.resources),
  ];
}

function cpu({ cpu: it }: Figures): readonly Figure[] {
  return [
    ...known('container_cpu_usage_seconds_total', secondsOf(it?.usageNs), ['total']),
    ...known('container_cpu_user_seconds_total', secondsOf(it?.userNs)),
    ...known('container_cpu_system_seconds_total', secondsOf(it?.systemNs)),
    ...known('container_cpu_cfs_periods_total', it?.periods),
    ...known('container_cpu_cfs_throttled_periods_total', it?.throttledPeriods),
    ...known('container_cpu_cfs_throttled_seconds_total', secondsOf(it?.throttledNs)),
  ];
}

function memory({ memory: it, hugepages, oomKills }: Figures): readonly Figure[] {
  // Containers have no groups below their own: its faults and those of the hierarchy are the same.
  const faults = (type: string, count: bigint | undefined): readonly Figure[] =>
    ['container', 'hierarchy'].flatMap((scope) => known('container_memory_failures_total', count, [type, scope]));
  return [
    ...known('container_memory_usage_bytes', it?.usage),
    ...known('container_memory_working_set_bytes', it?.workingSet),
    ...known('container_memory_max_usage_bytes', it?.peak),
    ...known('container_memory_rss', it?.rss),
    ...known('container_memory_cache', it?.cache),
    ...known('container_memory_mapped_file', it?.mappedFile),
    ...known('container_memory_kernel_usage', it?.kernel),
    ...known('container_memory_swap', it?.swap),
    ...known('container_memory_failcnt', it?.limitHits),
    ...faults('pgfault', it?.pageFaults),
    ...faults('pgmajfault', it?.majorPageFaults),
    ...known('container_oom_events_total', oomKills),
    ...hugepages.flatMap(({ pageSize, usageBytes }) => known('container_hugetlb_usage_bytes', usageBytes, [pageSize])),
  ];
}

function disks({ disks: all }: Figures): readonly Figure[] {
  return all.flatMap(({ device, readBytes, writeBytes, reads, writes }) => {
    const [major = '', minor = ''] = device.split(':');
    return [
      ...known('container_fs_reads_bytes_total', readBytes, [device]),
      ...known('container_fs_reads_total', reads, [device]),
      ...known('container_fs_writes_bytes_total', writeBytes, [device]),
      ...known('container_fs_writes_total', writes, [device]),
      ...known('container_blkio_device_usage_total', readBytes, [device, major, minor, 'read']),
      ...known('container_blkio_device_usage_total', writeBytes, [device, major, minor, 'write']),
    ];
  });
}

function writableLayer({ writableLayer: it }: Figures, scratch: SandboxStats['scratch']): readonly Figure[] {
  return [
    ...known('container_fs_usage_bytes', it?.bytes, [scratchDevice], it?.timeNs),
    ...known('container_fs_limit_bytes', scratch?.bytes, [scratchDevice]),
    ...known('container_fs_inodes_total', scratch?.inodes, [scratchDevice]),
    ...known('container_fs_inodes_free', scratch?.inodesFree, [scratchDevice]),
  ];
}

function processes({ processes: count, threads, threadsLimit, descriptors }: Figures): readonly Figure[] {
  const openFilesLimit = descriptors?.openFilesLimit === 0n ? undefined : descriptors?.openFilesLimit;
  return [
    ...known('container_processes', count),
    ...known('container_threads', threads),
    ...known('container_threads_max', threadsLimit),
    ...known('container_file_descriptors', descriptors?.open),
    ...known('container_sockets', descriptors?.sockets),
    ...known('container_ulimits_soft', openFilesLimit, ['max_open_files']),
  ];
}

export function pressure(resource: 'cpu' | 'memory' | 'io', it: Pressure | undefined): readonly Figure[] {
  if (it === undefined) return [];
  return [
    ...known(`container_pressure_${resource}_waiting_seconds_total`, (it.some?.totalUs ?? 0n) / 1_000_000n),
    ...known(`container_pressure_${resource}_stalled_seconds_total`, (it.full?.totalUs ?? 0n) / 1_000_000n),
  ];
}

/** As they were asked for last. A negative number lifts a limit. */
function limits(resources: LinuxResources | undefined): readonly Figure[] {
  const bytes = (limit: bigint | undefined): bigint => (limit !== undefined && limit > 0n ? limit : 0n);
  const or = (number: bigint | undefined, otherwise: bigint): bigint =>
    number === undefined || number === 0n ? otherwise : number;
  const guaranteed = resources?.unified['memory.min'] ?? '';
  const quota = resources?.cpuQuota ?? 0n;
  return [
    ...known('container_spec_cpu_period', or(resources?.cpuPeriod, defaultPeriodUs)),
    ...known('container_spec_cpu_quota', quota > 0n ? quota : undefined),
    ...known('container_spec_cpu_shares', or(resources?.cpuShares, defaultShares)),
    ...known('container_spec_memory_limit_bytes', bytes(resources?.memoryLimitBytes)),
    ...known('container_spec_memory_swap_limit_bytes', bytes(resources?.memorySwapLimitBytes)),
    ...known('container_spec_memory_reservation_limit_bytes', /^\d+$/.test(guaranteed) ? BigInt(guaranteed) : 0n),
  ];
}
