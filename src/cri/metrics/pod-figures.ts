import type { SandboxStats } from '../../podsandbox/stats-model.ts';
import { pressure } from './container-figures.ts';
import { type Figure, known, secondsOf } from './figure.ts';

/** A pod as the host accounts for it: its virtual machine, and the interfaces that CNI has given it. */
export function podFigures({ sandbox, usage }: SandboxStats): readonly Figure[] {
  const { memory, pressure: pressures } = usage;
  return [
    ...known('container_last_seen', secondsOf(usage.at)),
    ...known('container_start_time_seconds', secondsOf(sandbox.createdAt)),
    ...known('container_cpu_usage_seconds_total', secondsOf(usage.cpuNs), ['total']),
    ...known('container_memory_usage_bytes', memory?.usage),
    ...known('container_memory_working_set_bytes', memory?.workingSet),
    ...known('container_memory_rss', memory?.rss),
    ...known('container_memory_swap', memory?.swap),
    ...known('container_memory_failures_total', memory?.pageFaults, ['pgfault', 'hierarchy']),
    ...known('container_memory_failures_total', memory?.majorPageFaults, ['pgmajfault', 'hierarchy']),
    ...pressure('cpu', pressures.cpu),
    ...pressure('memory', pressures.memory),
    ...pressure('io', pressures.io),
    ...usage.interfaces.flatMap(({ name, received, sent }) => [
      ...known('container_network_receive_bytes_total', received.bytes, [name]),
      ...known('container_network_receive_packets_total', received.packets, [name]),
      ...known('container_network_receive_packets_dropped_total', received.dropped, [name]),
      ...known('container_network_receive_errors_total', received.errors, [name]),
      ...known('container_network_transmit_bytes_total', sent.bytes, [name]),
      ...known('container_network_transmit_packets_total', sent.packets, [name]),
      ...known('container_network_transmit_packets_dropped_total', sent.dropped, [name]),
      ...known('container_network_transmit_errors_total', sent.errors, [name]),
    ]),
  ];
}
