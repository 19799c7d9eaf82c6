import type { MetricType } from '../gen/cri-types.ts';

export interface Descriptor {
  readonly type: MetricType;
  readonly help: string;
  /** Keys of labels beside the common ones. */
  readonly labels: readonly string[];
}

function counter(help: string, ...labels: readonly string[]): Descriptor {
  return { type: 'COUNTER', help, labels };
}

function gauge(help: string, ...labels: readonly string[]): Descriptor {
  return { type: 'GAUGE', help, labels };
}

/**
 * Labels that every metric has, in this order: those of the kubelet's own cadvisor. `id` and `name` are of the
 * container, or the sandbox's id and POD.
 */
export const commonLabels = ['id', 'name', 'image', 'container', 'pod', 'namespace'] as const;

/**
 * Everything that pods and containers are measured by, with the names and texts of cadvisor. One of its
 * names is missing: the most that huge pages have taken, which cgroup v2 does not know.
 */
export const catalogue = {
  container_blkio_device_usage_total: counter('Bytes moved by block device.', 'device', 'major', 'minor', 'operation'),
  container_cpu_cfs_periods_total: counter('Number of elapsed enforcement period intervals.'),
  container_cpu_cfs_throttled_periods_total: counter('Number of throttled period intervals.'),
  container_cpu_cfs_throttled_seconds_total: counter('Total time duration the container has been throttled.'),
  container_cpu_system_seconds_total: counter('Cumulative system CPU time consumed in seconds.'),
  container_cpu_usage_seconds_total: counter('Cumulative CPU time consumed in seconds.', 'cpu'),
  container_cpu_user_seconds_total: counter('Cumulative user CPU time consumed in seconds.'),
  container_file_descriptors: gauge('Number of open file descriptors for the container.'),
  container_fs_inodes_free: gauge('Number of available inodes.', 'device'),
  container_fs_inodes_total: gauge('Number of inodes.', 'device'),
  container_fs_limit_bytes: gauge('Number of bytes that the containers of the pod can write.', 'device'),
  container_fs_reads_bytes_total: counter('Cumulative count of bytes read.', 'device'),
  container_fs_reads_total: counter('Cumulative count of reads completed.', 'device'),
  container_fs_usage_bytes: gauge('Number of bytes that the container has written.', 'device'),
  container_fs_writes_bytes_total: counter('Cumulative count of bytes written.', 'device'),
  container_fs_writes_total: counter('Cumulative count of writes completed.', 'device'),
  container_hugetlb_usage_bytes: gauge('Current use of huge pages.', 'pagesize'),
  container_last_seen: gauge('Last time a container was seen by the exporter.'),
  container_memory_cache: gauge('Number of bytes of page cache memory.'),
  container_memory_failcnt: counter('Number of times that memory usage has hit the limit.'),
  container_memory_failures_total: counter('Cumulative count of page faults.', 'failure_type', 'scope'),
  container_memory_kernel_usage: gauge('Size of kernel memory allocated in bytes.'),
  container_memory_mapped_file: gauge('Size of memory mapped files in bytes.'),
  container_memory_max_usage_bytes: gauge('Maximum memory usage recorded in bytes.'),
  container_memory_rss: gauge('Size of anonymous memory in bytes.'),
  container_memory_swap: gauge('Container swap usage in bytes.'),
  container_memory_usage_bytes: gauge('Current memory usage in bytes, including all memory whenever it was accessed.'),
  container_memory_working_set_bytes: gauge('Current working set in bytes.'),
  container_network_receive_bytes_total: counter('Cumulative count of bytes received.', 'interface'),
  container_network_receive_errors_total: counter('Cumulative count of errors while receiving.', 'interface'),
  container_network_receive_packets_dropped_total: counter('Packets dropped while receiving.', 'interface'),
  container_network_receive_packets_total: counter('Cumulative count of packets received.', 'interface'),
  container_network_transmit_bytes_total: counter('Cumulative count of bytes transmitted.', 'interface'),
  container_network_transmit_errors_total: counter('Cumulative count of errors while transmitting.', 'interface'),
  container_network_transmit_packets_dropped_total: counter('Packets dropped while transmitting.', 'interface'),
  container_network_transmit_packets_total: counter('Cumulative count of packets transmitted.', 'interface'),
  container_oom_events_total: counter('Count of processes that were killed for want of memory.'),
  container_pressure_cpu_stalled_seconds_total: counter('Time in which no task could run for want of CPU.'),
  container_pressure_cpu_waiting_seconds_total: counter('Time in which some task waited for CPU.'),
  container_pressure_io_stalled_seconds_total: counter('Time in which no task could run for want of I/O.'),
  container_pressure_io_waiting_seconds_total: counter('Time in which some task waited for I/O.'),
  container_pressure_memory_stalled_seconds_total: counter('Time in which no task could run for want of memory.'),
  container_pressure_memory_waiting_seconds_total: counter('Time in which some task waited for memory.'),
  container_processes: gauge('Number of processes running inside the container.'),
  container_sockets: gauge('Number of open sockets for the container.'),
  container_spec_cpu_period: gauge('CPU period of the container in microseconds.'),
  container_spec_cpu_quota: gauge('CPU quota of the container in microseconds; absent without one.'),
  container_spec_cpu_shares: gauge('CPU shares of the container.'),
  container_spec_memory_limit_bytes: gauge('Memory limit of the container; 0 without one.'),
  container_spec_memory_reservation_limit_bytes: gauge('Memory that the container is guaranteed.'),
  container_spec_memory_swap_limit_bytes: gauge('Limit of memory and swap of the container; 0 without one.'),
  container_start_time_seconds: gauge('Start time of the container since the Unix epoch in seconds.'),
  container_threads: gauge('Number of threads running inside the container.'),
  container_threads_max: gauge('Maximum number of threads allowed inside the container; 0 without one.'),
  container_ulimits_soft: gauge("Soft limit of the container's first process.", 'ulimit'),
} as const satisfies Readonly<Record<string, Descriptor>>;

export type MetricName = keyof typeof catalogue;

/** Of one of ours; undefined for a name that is not. */
export function descriptorOf(name: string): Descriptor | undefined {
  return Object.hasOwn(catalogue, name) ? catalogue[name as MetricName] : undefined;
}
